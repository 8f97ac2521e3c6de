"""``classifyd doctor`` finds each fault that can happen on a server."""

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from app.cli.doctor.machine import check_clock
from app.cli.doctor.permissions import Need, find_faults
from app.observability.log_ids import COUNTER_FILE
from app.settings import Settings
from tests.conftest import DEMO_PACKAGE
from tests.support.commands import run_classifyd
from tests.support.server import Server, free_port
from tests.support.website import website

Rows = list[dict[str, str]]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A copy of the demo package, which has golden samples; tests damage it."""
    shutil.copytree(DEMO_PACKAGE, tmp_path / "weights" / "imagenet")
    return tmp_path / "weights"


def diagnose(tmp_path: Path, *options: object, status: int = 0) -> Rows:
    ended = run_classifyd(
        "doctor", "--json", "--state-dir", tmp_path / "state", *options, status=status
    )
    rows: Rows = json.loads(ended.stdout)
    assert all(row["to_do"] for row in rows if row["level"] == "failure")
    return rows


def about(rows: Rows, subject: str) -> list[tuple[str, str]]:
    return [(row["level"], row["text"]) for row in rows if row["subject"] == subject]


def test_golden_samples_are_checked_with_the_engine_that_serves(
    tmp_path: Path, weights: Path
) -> None:
    (tmp_path / "state").mkdir()
    with Server(weights, tmp_path / "state") as server:
        rows = diagnose(tmp_path, "--weights-dir", weights, "--port", server.port)
    [(level, text)] = about(rows, "golden")
    assert level == "ok"
    assert "3 golden samples right" in text
    assert "by torchscript in the running server" in text


def test_without_a_server_the_golden_samples_are_computed(tmp_path: Path, weights: Path) -> None:
    rows = diagnose(tmp_path, "--weights-dir", weights, "--port", free_port())
    [(level, text)] = about(rows, "golden")
    assert (level, "by torchscript here" in text) == ("ok", True)
    assert about(rows, "port")[0][0] == "warning"


def test_a_package_that_fails_its_golden_samples_is_named(tmp_path: Path, weights: Path) -> None:
    manifest = weights / "imagenet/1/manifest.json"
    document = json.loads(manifest.read_text())
    document["golden"]["tolerance"] = 1e-9
    manifest.write_text(json.dumps(document))
    rows = diagnose(tmp_path, "--weights-dir", weights, "--port", free_port(), status=1)
    [(level, text)] = about(rows, "golden")
    assert level == "failure"
    assert "more than the tolerance 1e-09" in text


def test_a_changed_file_is_found_by_its_checksum(tmp_path: Path, weights: Path) -> None:
    with (weights / "imagenet/1/labels.txt").open("a") as labels:
        labels.write("one more\n")
    rows = diagnose(tmp_path, "--weights-dir", weights, "--port", free_port(), status=1)
    [(level, text)] = about(rows, "packages")
    assert (level, "found SHA-256" in text) == ("failure", True)


def test_a_version_that_is_active_but_not_served_is_reported(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "state").mkdir()
    shutil.copytree(weights / "imagenet/1", weights / "imagenet/2")
    (weights / "imagenet/ACTIVE").write_text("2\n1\n")
    with Server(weights, tmp_path / "state") as server:
        rows = diagnose(tmp_path, "--weights-dir", weights, "--port", server.port, status=1)
    assert "imagenet/2 is active, but an earlier version is served" in about(rows, "engine")[0][1]


def test_a_port_that_another_program_holds_is_a_failure(tmp_path: Path, weights: Path) -> None:
    with website() as origin:
        port = origin.rpartition(":")[2]
        rows = diagnose(tmp_path, "--weights-dir", weights, "--port", port, status=1)
    [(level, text)] = about(rows, "port")
    assert level == "failure"
    assert f"no classifyd answers at 127.0.0.1:{port}" in text


def test_a_missing_weights_folder_is_a_failure(tmp_path: Path) -> None:
    rows = diagnose(
        tmp_path, "--weights-dir", tmp_path / "nowhere", "--port", free_port(), status=1
    )
    assert about(rows, "packages")[0][0] == "failure"


def test_the_configured_log_file_is_read(tmp_path: Path, weights: Path) -> None:
    log = tmp_path / "classifyd.log"
    log.write_text('{"time": "T", "level": "error", "message": "it broke", "advice": "mend it"}\n')
    rows = diagnose(tmp_path, "--weights-dir", weights, "--port", free_port(), "--log-file", log)
    assert about(rows, "log") == [("warning", "T it broke")]


def test_the_archive_for_support_holds_no_secret_and_no_image(
    tmp_path: Path, weights: Path
) -> None:
    out = tmp_path / "fingerprint.json"
    run_classifyd("licence", "fingerprint", "--state-dir", tmp_path / "state", "--out", out)
    run_classifyd("token", "add", "tester", "--tokens-file", tmp_path / "state/tokens.json")
    bundle = tmp_path / "support.tar.gz"
    diagnose(tmp_path, "--weights-dir", weights, "--port", free_port(), "--bundle", bundle)
    with tarfile.open(bundle) as archive:
        contents = b"".join(_read(archive, member) for member in archive.getmembers())
    secrets = [
        (tmp_path / "state/machine.key").read_bytes().splitlines()[1],
        json.loads((tmp_path / "state/tokens.json").read_text())["tokens"][0]["sha256"].encode(),
    ]
    assert [secret for secret in secrets if secret in contents] == []
    assert b"JFIF" not in contents
    assert b"PRIVATE" not in contents


def test_the_archive_is_written_even_if_a_setting_is_wrong(tmp_path: Path) -> None:
    bundle = tmp_path / "support.tar.gz"
    rows = diagnose(tmp_path, "--port", "zero", "--bundle", bundle, status=1)
    assert about(rows, "configuration")[0][0] == "failure"
    with tarfile.open(bundle) as archive:
        assert "classifyd-support/findings.json" in archive.getnames()


def test_a_clock_behind_the_last_start_is_a_failure(tmp_path: Path) -> None:
    counter = tmp_path / COUNTER_FILE
    counter.touch()
    assert [finding.level for finding in check_clock(Settings(state_dir=tmp_path))] == ["ok"]
    os.utime(counter, (4e9, 4e9))
    [finding] = check_clock(Settings(state_dir=tmp_path))
    assert (finding.level, "before the server's last start" in finding.text) == ("failure", True)


def test_files_that_an_account_cannot_access_are_found(tmp_path: Path) -> None:
    for name in ("open", "closed"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "file").touch()
    # Relative to the folder, as other accounts cannot enter pytest's folders above it.
    needs = [
        Need("weights_dir", Path("open")),
        Need("state_dir", Path("closed"), writes=True),
        Need("licence_dir", Path("closed/inner/nothing")),
        Need("log_file", Path("new/folder"), writes=True),
    ]
    assert _asked_by_nobody(tmp_path, needs) == [None, None, None, None]
    (tmp_path / "closed" / "inner" / "file").chmod(0o444)
    assert _asked_by_nobody(tmp_path, needs)[1] is None
    (tmp_path / "closed" / "inner" / "file").chmod(0)
    assert _asked_by_nobody(tmp_path, needs)[1] == Path("closed/inner/file")
    (tmp_path / "closed" / "inner").chmod(0)
    assert _asked_by_nobody(tmp_path, needs)[1:3] == [Path("closed/inner")] * 2
    (tmp_path / "closed" / "inner").chmod(0o755)


def _asked_by_nobody(folder: Path, needs: list[Need]) -> list[Path | None]:
    """The result in a process that is not root, as root can access every file."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            os.chdir(folder)
            _become(folder, 65534)
            found = [str(path) if path else None for path in find_faults(needs, None)]
            os.write(writer, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        text = answer.read()
    os.wait()
    return [path and Path(path) for path in json.loads(text)]


def _become(folder: Path, account: int) -> None:
    if os.geteuid() != 0:
        return
    for path in (*folder.rglob("*"), folder):
        os.chown(path, account, account)
    os.setgroups([])
    os.setgid(account)
    os.setuid(account)


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    assert stream is not None
    return stream.read()
