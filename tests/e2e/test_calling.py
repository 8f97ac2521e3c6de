"""The commands that call a server: they find it, prove who they are, and check who answers."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.access_tokens import add_token
from app.settings import PROJECT_ROOT
from tests.support.certificates import make_authority
from tests.support.commands import run_classifyd
from tests.support.images import PHOTOS
from tests.support.server import Server

COFFEE = PHOTOS / "coffee.jpg"


class LockedServer(Server):
    """A server with TLS and access tokens, which only its state folder makes known."""

    def __enter__(self) -> "LockedServer":
        self.start()
        self.wait_for_port()
        return self


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def token_file(state: Path) -> Path:
    file = state / "till.token"
    file.write_text(add_token(state / "tokens.json", "till", None) + "\n")
    return file


@pytest.fixture(scope="module")
def locked(colour_weights: Path, state: Path, token_file: Path) -> Iterator[LockedServer]:
    _, certificate, key = make_authority(state / "tls")
    settings = {"tls_certificate": certificate, "tls_key": key, "log_file": state / "log"}
    with LockedServer(colour_weights, state, access_tokens="on", **settings) as running:
        yield running


def https_url(server: Server, host: str = "localhost") -> str:
    return f"https://{host}:{server.port}/colours/ImageClassification"


def test_predict_finds_the_server_and_calls_it_with_a_token(
    locked: LockedServer, state: Path, token_file: Path
) -> None:
    here = ("--state-dir", state, "--token-file", token_file, "--name", "colours", "--json")
    row = json.loads(run_classifyd("predict", *here, COFFEE).stdout)
    assert row["file"] == str(COFFEE)
    assert [result["name"] for result in row["results"]]


def test_without_a_token_every_image_is_refused(locked: LockedServer, state: Path) -> None:
    here = ("--state-dir", state, "--name", "colours", "--json")
    ended = run_classifyd("predict", *here, COFFEE, status=3)
    first, last = map(json.loads, ended.stdout.splitlines())
    assert (first["error"]["code"], first["error"]["kind"]) == (337000, "refused")
    assert last["error"] == {"kind": "refused", "message": "1 of 1 image failed"}


def test_several_names_must_be_chosen_from(
    locked: LockedServer, state: Path, token_file: Path
) -> None:
    here = ("--state-dir", state, "--token-file", token_file)
    ended = run_classifyd("predict", *here, COFFEE, status=3)
    assert "the server serves colours, farben: choose with --name" in ended.stderr


def test_https_is_verified_with_the_authority_that_is_named(
    locked: LockedServer, state: Path, token_file: Path
) -> None:
    trust = ("--cacert", state / "tls/ca.pem", "--token-file", token_file)
    run_classifyd("predict", "--url", https_url(locked), *trust, COFFEE)
    for url, options, told in (
        (https_url(locked), trust[2:], "a certificate that is not trusted"),
        (https_url(locked, "127.0.0.1"), trust, "a certificate that is not trusted"),
        (https_url(locked).replace("https", "http"), trust, "does not answer"),
    ):
        ended = run_classifyd("predict", "--url", url, *options, COFFEE, status=4)
        assert told in ended.stderr


def test_bench_loads_a_server_with_https_and_tokens(
    locked: LockedServer, state: Path, token_file: Path, tmp_path: Path
) -> None:
    loads = ("--connections", "4", "--rate", "20", "--duration", "1", "--json")
    report = tmp_path / "new" / "folder" / "r"
    found = ("--state-dir", state, "--name", "colours")
    named = (https_url(locked), "--cacert", state / "tls/ca.pem", "--output", report)
    for options in (found, named):
        ended = run_classifyd("bench", *options, "--token-file", token_file, *loads)
        figures = json.loads(ended.stdout)
        assert "by torchscript on cpu" in figures["facts"]["server"]
        assert all(run["results_per_s"] > 1 and not run["errors"] for run in figures["runs"])
    assert report.with_name("r.html").exists()
    ended = run_classifyd("bench", *found, *loads, status=3)
    assert "337000: no access token" in ended.stderr


def test_doctor_and_logs_find_the_server_without_its_settings(
    locked: LockedServer, colour_weights: Path, state: Path
) -> None:
    folders = ("--state-dir", state, "--weights-dir", colour_weights)
    rows = json.loads(_run("doctor", *folders).stdout)
    assert f"the server at 127.0.0.1:{locked.port} is ready" in [row["text"] for row in rows]
    assert run_classifyd("logs", "--state-dir", state, "--code", "337000").stdout


def test_no_message_contains_a_token(
    locked: LockedServer, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "SECRET-4711"  # noqa: S105 - of the test
    two_lines = tmp_path / "tokens"
    two_lines.write_text(f"{secret}\nother {secret}\n")
    query = f"?access_token={secret}"
    trust = ("--cacert", state / "tls/ca.pem")
    closed = f"http://user:{secret}@127.0.0.1:9/a/ImageClassification{query}"
    ended = [
        _run("predict", "--url", closed, COFFEE),
        _run("predict", "--url", f"ftp://h/a{query}", COFFEE),
        _run("predict", "--url", f"http://h:x/a{query}", COFFEE),
        _run("predict", "--url", https_url(locked) + query, *trust, COFFEE),
        _run("predict", "--state-dir", state, "--token-file", two_lines, COFFEE),
        _run("bench", closed),
        _run("bench", https_url(locked) + query, *trust),
    ]
    monkeypatch.setenv("CLASSIFYD_TOKEN", f"{secret} {secret}")
    ended.append(_run("predict", "--state-dir", state, COFFEE))
    monkeypatch.setenv("CLASSIFYD_TOKEN", secret)
    ended.append(_run("bench", "--state-dir", state, "--name", "colours"))
    ended.append(_run("settings"))
    for each in ended:
        assert secret not in each.stdout + each.stderr
        assert "Traceback" not in each.stderr
    assert [each.returncode for each in ended] == [4, 2, 2, 3, 3, 4, 3, 3, 3, 0]


def _run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "app.cli", *map(str, arguments), "--json"]
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)


def test_a_bad_file_is_a_line_and_not_the_end(
    server: Server, colour_weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in ("a.jpg", "below/b.JPG", ".hidden.jpg"):
        shutil.copy(COFFEE, folder / name)
    (folder / "c.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image")
    images = (folder, tmp_path / "none.jpg", tmp_path / "empty", COFFEE)
    url = f"http://127.0.0.1:{server.port}/colours/ImageClassification"
    package = ("--package", "colours", "--weights-dir", colour_weights)
    for source in (("--url", url), package):
        ended = run_classifyd("predict", *source, "--json", *images, status=1)
        *rows, last = map(json.loads, ended.stdout.splitlines())
        files = [*(folder / name for name in ("a.jpg", "below/b.JPG", "c.png")), *images[1:]]
        assert [row["file"] for row in rows] == list(map(str, files))
        assert ["error" in row for row in rows] == [False, False, True, True, True, False]
        assert rows[2]["error"]["code"] == 336005
        assert "No such file" in rows[3]["error"]["message"]
        assert last["error"]["message"] == "3 of 6 images failed"


def test_an_image_comes_from_standard_input(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/colours/ImageClassification"
    with COFFEE.open("rb") as photo:
        ended = subprocess.run(
            [sys.executable, "-m", "app.cli", "predict", "--url", url, "-"],
            cwd=PROJECT_ROOT, stdin=photo, capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert ended.stdout.startswith("-:\n  ")
