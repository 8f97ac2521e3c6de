"""The examples of reverse proxies in a real nginx and a real HAProxy, with TLS."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.images import RED
from tests.support.proxies import PREFIX, Haproxy, Nginx, Proxy
from tests.support.server import Answer, Server, free_port

KINDS = [pytest.param(Nginx, id="nginx"), pytest.param(Haproxy, id="haproxy")]
PATH = "/colours/ImageClassification"
CALL = json.dumps({"image": RED}).encode()


@pytest.fixture(scope="module", params=KINDS)
def proxy(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with request.param(tmp_path_factory.mktemp("proxy"), server.port) as running:
        yield running


@pytest.fixture(scope="module", params=KINDS)
def prefixed(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    with request.param(folder, server.port, with_prefix=True) as running:
        yield running


def _expect(answer: Answer, code: int, status: int) -> None:
    """Check an error that the proxy made: all that the contract says of an error."""
    assert (answer.status, answer.code) == (status, code), (answer.headers, answer.body)
    assert list(answer.json) == ["error_code", "error_msg", "log_id"]
    assert 0 < answer.json["log_id"] < 2**53
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["x-error-code"] == str(code)
    assert headers["x-error-detail"].startswith(("nginx: ", "HAProxy: "))
    assert ("retry-after" in headers) == (code == 336100)


@pytest.mark.parametrize("end", ["", "/"])
def test_a_classification_passes_through_the_proxy(proxy: Proxy, end: str) -> None:
    answer = proxy.request("POST", PATH + end, CALL)
    assert answer.status == 200
    assert answer.json["results"][0]["name"] == "red"


def test_a_batch_passes_through_the_proxy(proxy: Proxy) -> None:
    answer = proxy.request("POST", f"{PATH}/batch", json.dumps({"images": [RED]}).encode())
    assert answer.json["answers"][0]["results"][0]["name"] == "red"


@pytest.mark.parametrize("size_mb", [5, 20, 40])
def test_an_image_that_is_too_large_gets_a_json_error(proxy: Proxy, size_mb: int) -> None:
    body = b'{"image":"' + b"A" * (size_mb * 2**20) + b'"}'
    answer = proxy.request("POST", PATH, body)
    assert (answer.status, answer.code) == (200, 336004)
    assert "输入文件大小不合法" in answer.body.decode()


def test_an_unknown_name_and_an_unknown_path_get_json_errors(proxy: Proxy) -> None:
    assert proxy.request("POST", "/nobody/ImageClassification", b"{}").code == 336001
    unknown = proxy.request("POST", "/elsewhere", b"{}")
    assert (unknown.status, unknown.code) == (404, 336001)


MALFORMED = {
    "no HTTP": (b"hello\r\n\r\n", 400),
    "a bad header": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a long path": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a long header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 400),
    "a transfer encoding": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: magic\r\n\r\n",
        501,
    ),
    "a future version": (b"GET / HTTP/4.0\r\nHost: a\r\n\r\n", 505),
    "a method": (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_nginx_answers_malformed_requests_in_json(
    server: Server, tmp_path: Path, name: str
) -> None:
    data, status = MALFORMED[name]
    with Nginx(tmp_path, server.port) as proxy:
        _expect(proxy.send(data), 336001, status)
        # Of a call of the API only what comes after its path has been read.
        call = data.replace(b" / ", f" {PATH} ".encode())
        if call != data:
            answer = proxy.send(call)
            assert answer.code == 336001, answer.body


def test_nginx_answers_plain_http_at_its_tls_port_in_json(server: Server, tmp_path: Path) -> None:
    with Nginx(tmp_path, server.port) as proxy:
        data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        _expect(proxy.send(data, with_tls=False), 336001, 400)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", [PATH, f"{PREFIX}{PATH}", "/readyz"])
def test_a_server_that_is_down_gives_336100(kind: type[Proxy], path: str, tmp_path: Path) -> None:
    with kind(tmp_path, free_port(), with_prefix=PREFIX in path) as proxy:
        answer = proxy.request("POST", path, b"{}")
        _expect(answer, 336100, 503 if path == "/readyz" else 200)
        if kind is Haproxy:  # as HTTP has it
            assert proxy.request("HEAD", path).status == 503


REPLIES = {"end": b"", "garbage": b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n", "silence": None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_a_server_that_fails_gives_336100(
    kind: type[Proxy], reply: bytes | None, tmp_path: Path
) -> None:
    changes: dict[type[Proxy], list[tuple[str, str]]] = {
        Nginx: [("proxy_read_timeout    60s", "proxy_read_timeout 1s")],
        Haproxy: [("timeout server  30s", "timeout server 1s")],
    }
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=_fail, args=(listener, reply), daemon=True).start()
        port = listener.getsockname()[1]
        with kind(tmp_path, port, changes=changes[kind]) as proxy:
            _expect(proxy.request("POST", PATH, CALL), 336100, 200)
            assert proxy.request("GET", "/healthz").status in {502, 503, 504}


def test_haproxy_answers_an_upload_that_stops_in_json(server: Server, tmp_path: Path) -> None:
    with Haproxy(tmp_path, server.port, changes=[("time 120s", "time 1s")]) as proxy:
        head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
        _expect(proxy.send(head.encode() + b"a" * 100_000), 336001, 200)
        assert proxy.held_by("node1") == 0


def _fail(listener: socket.socket, reply: bytes | None) -> None:
    """Accept connections as a broken server: close each after a reply, or never answer."""
    silent = []
    while listener.fileno() >= 0:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        if reply is None:
            silent.append(client)
            continue
        with client:
            client.recv(65536)
            client.sendall(reply)


def test_everything_works_under_a_prefix(prefixed: Proxy) -> None:
    answer = prefixed.request("POST", PREFIX + PATH, CALL)
    assert answer.json["results"][0]["name"] == "red"
    for path in ("/", "/docs", "/openapi.json", "/readyz", "/static/console.js", "/metrics"):
        assert prefixed.request("GET", PREFIX + path).status == 200, path
    away = prefixed.request("GET", PREFIX)
    assert away.status in {301, 308}
    assert away.headers.get("Location", away.headers.get("location", "")).endswith(f"{PREFIX}/")
    # With a trailing slash, and a name that must be escaped on its way.
    assert prefixed.request("POST", f"{PREFIX}{PATH}/", CALL).code == 0
    unknown = prefixed.request("POST", f"{PREFIX}/no%20body/ImageClassification", CALL)
    assert (unknown.status, unknown.code) == (200, 336001)
