"""Each code sample of the console and the documents, run with nothing but its constants changed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.access_tokens import add_token
from app.settings import PROJECT_ROOT
from tests.support.certificates import make_authority
from tests.support.images import solid
from tests.support.packages import build_colour_package
from tests.support.server import Server
from tests.support.tools import find_program
from tests.support.website import balancer, website

CLIENTS = PROJECT_ROOT / "app" / "console" / "static" / "clients"
SAMPLE_URL = "http://127.0.0.1:8000/imagenet/ImageClassification"
GREEN = solid((10, 250, 10), kind="JPEG")

RUN: dict[str, list[list[str]]] = {
    "client.sh": [["sh", "client.sh"]],
    "client.py": [[sys.executable, "client.py"]],
    "Client.java": [["java", "Client.java"]],
    "Client.cs": [["mcs", "-r:System.Net.Http.dll", "Client.cs"], ["mono", "Client.exe"]],
    "client.mjs": [["node", "client.mjs"]],
    "client.go": [["go", "run", "client.go"]],
    "client.php": [["php", "client.php"]],
}
each_client = pytest.mark.parametrize("name", RUN)


class _Guarded(Server):
    """A server with ``http_status = rest`` that speaks TLS and asks for a token."""

    token: str
    authority: Path

    def wait_until_ready(self, path: str = "/healthz") -> None:
        """Wait for its message, as the plain HTTP of a probe would fail."""
        self.wait_for_port()


@pytest.fixture(scope="module")
def guarded(colour_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Guarded]:
    state = tmp_path_factory.mktemp("state")
    authority, certificate, key = make_authority(state / "tls")
    token = add_token(state / "tokens.json", "till-1")
    settings = {"tls_certificate": certificate, "tls_key": key}
    with _Guarded(
        colour_weights, state, http_status="rest", access_tokens="on", **settings
    ) as server:
        server.token, server.authority = token, authority
        yield server


@pytest.fixture(scope="module", params=["compat", "rest"])
def loading(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that answers ``broken`` with 336100 and ``colours`` with results."""
    state = tmp_path_factory.mktemp("state")
    weights = state / "weights"
    build_colour_package(weights, "colours", ["red", "green", "blue"])
    (build_colour_package(weights, "broken", ["red", "green", "blue"]) / "labels.txt").unlink()
    with Server(weights, state, http_status=request.param) as server:
        yield server


def _run(
    folder: Path, name: str, origin: str, image: bytes = GREEN, token: str = "", ca: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a client in a folder, with its constants changed as a person would."""
    for command in RUN[name]:
        find_program(command[0])
    text = (CLIENTS / name).read_text(encoding="utf-8")
    assert text.count(SAMPLE_URL) == 1
    text = text.replace(SAMPLE_URL, f"{origin}/colours/ImageClassification")
    for constant, value in (("token", token), ("ca", ca)):
        pattern = rf"""(\b{constant}\s*=\s*)(["'])\2"""
        text = re.sub(pattern, rf"\g<1>\g<2>{value}\g<2>", text, count=1, flags=re.IGNORECASE)
    (folder / name).write_text(text, encoding="utf-8")
    (folder / "photo.jpg").write_bytes(image)
    environment = os.environ | ({"NODE_EXTRA_CA_CERTS": ca} if ca else {})
    for command in RUN[name]:
        ended = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
    return ended


def _assert_green(ended: "subprocess.CompletedProcess[str]") -> None:
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.index("green") < ended.stdout.index("red")


def _assert_failed(ended: "subprocess.CompletedProcess[str]", *said: str) -> None:
    assert (ended.returncode, ended.stdout) == (1, "")
    assert [text for text in said if text not in ended.stderr] == []


def test_every_client_file_has_a_command() -> None:
    assert {path.name for path in CLIENTS.iterdir()} == set(RUN)


@each_client
def test_client_prints_the_right_class(server: Server, tmp_path: Path, name: str) -> None:
    _assert_green(_run(tmp_path, name, f"http://127.0.0.1:{server.port}"))


@each_client
def test_client_prints_what_is_wrong_with_an_image(
    server: Server, tmp_path: Path, name: str
) -> None:
    ended = _run(tmp_path, name, f"http://127.0.0.1:{server.port}", GREEN[:400])
    _assert_failed(ended, "336005", "jpg: ", "log_id")


@each_client
def test_client_with_tls_token_and_http_statuses(
    guarded: _Guarded, tmp_path: Path, name: str
) -> None:
    origin, ca = f"https://localhost:{guarded.port}", str(guarded.authority)
    _assert_green(_run(tmp_path, name, origin, token=guarded.token, ca=ca))
    wrong_image = _run(tmp_path, name, origin, GREEN[:400], guarded.token, ca)
    _assert_failed(wrong_image, "336005", "jpg: ", "log_id")
    _assert_failed(_run(tmp_path, name, origin, ca=ca), "337000", "token", "log_id")


@each_client
def test_client_trusts_only_its_authority_and_the_host_name(
    guarded: _Guarded, tmp_path: Path, name: str
) -> None:
    by_name, by_address = (f"https://{host}:{guarded.port}" for host in ("localhost", "127.0.0.1"))
    impostor, *_ = make_authority(tmp_path / "impostor")
    own, unknown = str(guarded.authority), "unknown"
    refused = [(by_name, ""), (by_name, str(impostor)), (by_address, own)]
    if name == "Client.cs":
        refused.pop()  # Mono does not check the name
    for origin, ca in refused:
        _assert_failed(_run(tmp_path, name, origin, token=unknown, ca=ca))
    assert "unknown access token" not in guarded.log_text()


@each_client
@pytest.mark.parametrize("refused", [1, 2])
def test_client_waits_as_told_and_retries_once(
    loading: Server, tmp_path: Path, name: str, refused: int
) -> None:
    paths = ["/broken/ImageClassification"] * refused + ["/colours/ImageClassification"]
    with balancer(loading, paths, retry_after_s=2) as balanced:
        ended = _run(tmp_path, name, balanced.origin)
    assert len(balanced.times_s) == 2
    assert balanced.times_s[1] - balanced.times_s[0] >= 2
    if refused == 1:
        _assert_green(ended)
    else:
        _assert_failed(ended, "336100", "could not be loaded", "log_id")


@each_client
def test_client_fails_if_nobody_or_something_else_answers(tmp_path: Path, name: str) -> None:
    with website(b"<h1>502 Bad Gateway</h1>") as origin:
        _assert_failed(_run(tmp_path, name, origin))
    ended = _run(tmp_path, name, origin)
    _assert_failed(ended)
    assert ended.stderr
