"""``classifyd batch`` on real photos: the server's scores, and a row for each photo, once."""

import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.batch.photos import MAX_FILE_BYTES
from app.settings import PROJECT_ROOT
from tests.support.batch import batch_options, read_rows
from tests.support.commands import run_classifyd
from tests.support.images import PHOTOS, solid, to_base64
from tests.support.licences import build_sealed_package, customer_fingerprint, write_licence
from tests.support.packages import build_slow_package
from tests.support.server import Server
from tests.support.waiting import wait_until

FILES = sorted(path for path in PHOTOS.iterdir() if path.suffix != ".md")
COPIES = 12
SLOW_S = 0.03


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies of the real photos, and with what is none."""
    folder = tmp_path_factory.mktemp("photos")
    for copy in range(COPIES):
        (folder / str(copy)).mkdir()
        for path in FILES:
            shutil.copy(path, folder / str(copy))
    (folder / "cut.jpg").write_bytes(FILES[0].read_bytes()[:20_000])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "large.bmp").write_bytes(bytes(MAX_FILE_BYTES + 1))
    (folder / "small\nname.png").write_bytes(solid((9, 9, 9), (14, 14)))
    (folder / "broken.jpg").symlink_to("nothing")
    return folder


BAD = {
    "cut.jpg": 336005,
    "empty.jpg": 336005,
    "large.bmp": 336004,
    "small\nname.png": 336004,
    "broken.jpg": 336000,
}


@pytest.fixture(scope="module")
def slow_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is slow enough to be interrupted."""
    folder = tmp_path_factory.mktemp("weights")
    build_slow_package(folder, "slow", SLOW_S)
    return folder


def expected_paths(photos: Path) -> list[str]:
    """The paths of all photos in a folder, each once, in the order of their rows."""
    paths = [path for path in photos.rglob("*") if not path.is_dir()]
    return sorted(str(path.relative_to(photos)) for path in paths)


def test_each_photo_has_a_row_with_the_answer_of_the_server(
    photos: Path, server: Server, colour_weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    arguments = (*batch_options(colour_weights, "colours", out), "--json", "--top-num", "2")
    ended = run_classifyd("batch", photos, *arguments, status=1)
    assert ended.stderr == ""
    rows = read_rows(out)
    assert [row["path"] for row in rows] == expected_paths(photos)
    assert {row["path"]: row["error_code"] for row in rows if row["error_code"]} == BAD
    answers = {
        path.name: server.classify("colours", {"image": to_base64(path.read_bytes()), "top_num": 2})
        for path in FILES
    }
    for row in rows:
        name = Path(row["path"]).name
        if row["error_code"] is None:
            assert row["results"] == answers[name].json["results"]
        if row["path"] != "broken.jpg":
            digest = hashlib.sha256((photos / row["path"]).read_bytes()).hexdigest()
            assert row["sha256"] == digest
    summary = json.loads(ended.stdout)
    assert summary["photos"] == len(rows)
    assert summary["errors"] == {"336000": 1, "336004": 2, "336005": 2}
    assert {(row["model"], row["model_version"], row["model_digest"]) for row in rows} == {
        ("colours", "1", summary["digest"])
    }


def test_a_tar_has_the_rows_of_its_folder(
    photos: Path, colour_weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "photos.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for copy in range(3):
            archive.add(photos / str(copy), f"../{copy}")
    out = tmp_path / "results"
    run_classifyd("batch", path, *batch_options(colour_weights, "colours", out))
    rows = read_rows(out)
    assert len({row["path"] for row in rows}) == len(rows) == 3 * len(FILES)
    for row in rows:
        data = (photos / row["path"].removeprefix("../")).read_bytes()
        assert row["sha256"] == hashlib.sha256(data).hexdigest()


def start(photos: Path, weights: Path, out: Path) -> "subprocess.Popen[str]":
    """Start a run in the background."""
    arguments = map(str, ("batch", photos, *batch_options(weights, "slow", out)))
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_parts(process: "subprocess.Popen[str]", out: Path, number: int) -> None:
    """Wait until a run has written this number of parts, and goes on."""
    wait_until(lambda: len(list(out.glob("part-*"))) >= number, f"{number} parts", pause_s=0.005)
    assert process.poll() is None


def test_a_killed_run_goes_on_and_no_row_is_missing_or_twice(
    photos: Path, slow_weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    for number in (1, 3, 5):
        with start(photos, slow_weights, out) as process:
            wait_for_parts(process, out, number)
            process.kill()
        before = {path: path.read_bytes() for path in out.glob("part-*")}
        assert 0 < len(read_rows(out)) < len(expected_paths(photos))
    ended = run_classifyd("batch", photos, *batch_options(slow_weights, "slow", out), status=1)
    assert "of an earlier run" in ended.stdout
    assert [row["path"] for row in read_rows(out)] == expected_paths(photos)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list(out.glob(".*"))
    again = run_classifyd("batch", photos, *batch_options(slow_weights, "slow", out), status=1)
    assert f"{len(expected_paths(photos))} rows of an earlier run" in again.stdout


def test_ctrl_c_ends_a_run_with_one_line(photos: Path, slow_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    with start(photos, slow_weights, out) as process:
        wait_for_parts(process, out, 1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert stderr.startswith("classifyd: interrupted, ")
    assert stderr.endswith("the same command goes on\n")
    assert stderr.count("\n") == 1


def test_a_worker_that_is_killed_ends_the_run_with_one_line(
    photos: Path, slow_weights: Path, tmp_path: Path
) -> None:
    import psutil

    out = tmp_path / "results"
    with start(photos, slow_weights, out) as process:
        wait_for_parts(process, out, 1)
        children = psutil.Process(process.pid).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        workers[0].kill()
        _, stderr = process.communicate()
    assert process.returncode == 3
    assert "a worker process ended (exit status -9" in stderr
    assert stderr.count("\n") == 1


def test_a_full_disk_ends_the_run_with_one_line(
    photos: Path, colour_weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    arguments = map(str, ("batch", photos, *batch_options(colour_weights, "colours", out)))
    ended = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=PROJECT_ROOT,
        # The most that a file may have stands for what the disk has left.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4500, 4500)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    assert "part-0000" in ended.stderr
    assert "cannot be written: File too large; afterwards the same command goes on" in ended.stderr
    assert not list(out.glob("part-*"))
    run_classifyd("batch", photos, *batch_options(colour_weights, "colours", out), status=1)
    assert [row["path"] for row in read_rows(out)] == expected_paths(photos)


def test_another_plan_is_refused_until_the_run_begins_anew(
    photos: Path, colour_weights: Path, tmp_path: Path
) -> None:
    out, few = tmp_path / "results", photos / "0"
    arguments = ("batch", few, *batch_options(colour_weights, "colours", out))
    run_classifyd(*arguments)
    refused = run_classifyd(*arguments, "--top-num", "1", status=3)
    assert "top_num was 6, is 1 now" in refused.stderr
    assert "--restart" in refused.stderr
    run_classifyd(*arguments, "--top-num", "1", "--restart")
    assert {len(row["results"]) for row in read_rows(out)} == {1}


def test_a_source_without_photos_is_refused(colour_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arguments = batch_options(colour_weights, "colours", tmp_path / "results")
    ended = run_classifyd("batch", tmp_path / "empty", *arguments, status=3)
    assert "found no photos" in ended.stderr


def test_a_sealed_package_needs_the_licence_of_this_machine(photos: Path, tmp_path: Path) -> None:
    publisher = Ed25519PrivateKey.generate()
    weights, licences, out = tmp_path / "weights", tmp_path / "licences", tmp_path / "results"
    build_sealed_package(weights, "sealed", publisher)
    arguments = (
        "batch",
        photos / "0",
        *batch_options(weights, "sealed", out),
        "--licence-dir",
        licences,
    )
    refused = run_classifyd(*arguments, status=3)
    assert "the package is sealed" in refused.stderr
    fingerprint = customer_fingerprint(tmp_path / "state")
    write_licence(licences / "a.licence", publisher, fingerprint, "sealed")
    run_classifyd(*arguments)
    assert [row["error_code"] for row in read_rows(out)] == [None] * len(FILES)
