"""The reverse proxy example in a real nginx, with TLS."""

import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT
from tests.support.images import RED
from tests.support.server import Server, free_port
from tests.support.tools import find_program
from tests.support.waiting import wait_until

NGINX, OPENSSL = find_program("nginx"), find_program("openssl")


class Proxy:
    """nginx with ``deploy/nginx.conf``, changed to free ports and a temporary folder."""

    def __init__(self, folder: Path, server_port: int) -> None:
        self.port = free_port()
        _make_certificate(folder)
        site = (PROJECT_ROOT / "deploy/nginx.conf").read_text()
        site = site.replace("listen 443", f"listen 127.0.0.1:{self.port}")
        site = site.replace("127.0.0.1:8000", f"127.0.0.1:{server_port}")
        site = site.replace("/etc/nginx/tls", str(folder))
        config = folder / "nginx.conf"
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # By default its workers run as another account, which cannot enter pytest's folders.
        account = "user root;" if os.geteuid() == 0 else ""
        config.write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; {account} events {{}}\n"
            f"http {{ access_log off;\n{temporary}{site}}}\n"
        )
        self.process = subprocess.Popen([NGINX, "-c", config], stderr=subprocess.DEVNULL)

    def post(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Status, Content-Type and body of one request over TLS."""
        context = ssl._create_unverified_context()  # noqa: S323 - our own certificate of now
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read()
        finally:
            connection.close()

    def listens(self) -> bool:
        """Whether it answers."""
        try:
            self.post("/healthz", b"")
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


def _make_certificate(folder: Path) -> None:
    subprocess.run(
        [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-keyout", folder / "classifyd.key", "-out", folder / "classifyd.crt"],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def proxy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    running = Proxy(tmp_path_factory.mktemp("nginx"), server.port)
    try:
        wait_until(running.listens, "nginx")
        yield running
    finally:
        running.stop()


def test_a_classification_passes_through_the_proxy(proxy: Proxy) -> None:
    body = json.dumps({"image": RED}).encode()
    status, kind, answer = proxy.post("/colours/ImageClassification", body)
    assert (status, kind.split(";")[0]) == (200, "application/json")
    assert json.loads(answer)["results"][0]["name"] == "red"


@pytest.mark.parametrize("size_mb", [5, 20, 40])
def test_an_image_that_is_too_large_gets_a_json_error(proxy: Proxy, size_mb: int) -> None:
    body = b'{"image":"' + b"A" * (size_mb * 2**20) + b'"}'
    status, _, answer = proxy.post("/colours/ImageClassification", body)
    assert (status, json.loads(answer)["error_code"]) == (200, 336004)
    assert "输入文件大小不合法" in answer.decode()


def test_an_unknown_name_and_an_unknown_path_get_json_errors(proxy: Proxy) -> None:
    assert json.loads(proxy.post("/nobody/ImageClassification", b"{}")[2])["error_code"] == 336001
    assert json.loads(proxy.post("/elsewhere", b"{}")[2])["error_code"] == 336001


def test_a_server_that_is_down_gives_336100(tmp_path: Path) -> None:
    running = Proxy(tmp_path, free_port())
    try:
        wait_until(running.listens, "nginx")
        status, _, answer = running.post("/colours/ImageClassification", b"{}")
        assert status == 200
        assert json.loads(answer)["error_code"] == 336100
        assert json.loads(answer)["log_id"] > 0
    finally:
        running.stop()
