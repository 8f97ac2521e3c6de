"""Clients that hold connections, bodies and memory: none of them stops the others."""

import json
import resource
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from tests.support.images import RED
from tests.support.server import Server
from tests.support.waiting import wait_until

PATH = "/colours/ImageClassification"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n"
BODY = json.dumps({"image": RED}).encode()
WAIT_S = 30
MIB = 1024 * 1024


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _connect(server: Server, clients: ExitStack, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), WAIT_S)
    clients.enter_context(connection)
    connection.sendall(sent)
    return connection


def _ask(server: Server, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_unfinished_heads_cost_nobody_anything_and_are_answered(
    colour_weights: Path, tmp_path: Path, clients: ExitStack
) -> None:
    with Server(colour_weights, tmp_path, head_timeout_s=3) as server:
        slow = [_connect(server, clients, HEAD.encode()) for _ in range(300)]
        assert server.request("GET", "/healthz").status == 200
        assert server.classify("colours", {"image": RED}).code == 0
        assert b"408 Request Timeout" in slow[0].recv(65536)
        assert b"408 Request Timeout" in slow[-1].recv(65536)
        assert server.request("GET", "/healthz").status == 200


def _framed(number: int, padding: int) -> bytes:
    body = json.dumps({"image": RED, "padding": "x" * padding}).encode()
    if number % 3:
        return HEAD.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunks = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    return HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


@pytest.mark.parametrize("piece_bytes", [1000, 8192, 3_000_000])
def test_requests_that_follow_each_other_at_once_are_answered_in_order(
    server: Server, piece_bytes: int
) -> None:
    padding = (0, 300_000, 7000, 100, 600_000, 0, 20_000)
    sent = b"".join(_framed(number, size) for number, size in enumerate(padding))
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    sent = health + sent + health
    with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as connection:

        def send() -> None:
            for start in range(0, len(sent), piece_bytes):
                connection.sendall(sent[start : start + piece_bytes])
            connection.shutdown(socket.SHUT_WR)

        with ThreadPoolExecutor(1) as sender:
            sending = sender.submit(send)
            received = b"".join(iter(lambda: connection.recv(65536), b""))
            sending.result()
    answers = received.split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200"] * (len(padding) + 2)
    assert [b'"results"' in answer for answer in answers] == [False, *[True] * 7, False]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/metrics", "/nothing/here"])
def test_every_answer_has_a_length_and_the_connection_goes_on(
    server: Server, method: str, path: str
) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    for _ in range(2):
        connection.request(method, path)
        answer = connection.getresponse()
        length = int(answer.headers["Content-Length"])
        assert length > 0
        assert len(answer.read()) == (0 if method == "HEAD" else length)
        assert answer.headers["Connection"] == "keep-alive"
    connection.close()


def test_http_1_0_is_closed_unless_the_client_asks_for_more(server: Server) -> None:
    assert b"Connection: close" in _ask(server, b"GET /healthz HTTP/1.0\r\n\r\n")
    asked = b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert b"Connection: keep-alive" in _ask(server, asked)


def test_bodies_that_never_come_take_no_place(server: Server, clients: ExitStack) -> None:
    for target in (PATH, "/nothing/here"):
        head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        for _ in range(120):
            _connect(server, clients, head.encode())
    assert server.request("GET", "/healthz").status == 200
    assert server.classify("colours", {"image": RED}).code == 0


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\nsecret\r\n0\r\n\r\n", b"5\r\nsecret\r\n0\r\n\r\n", b"-1\r\n", b"5;\x00\r\nhello\r\n"],
)
def test_malformed_chunks_are_336001_and_not_in_the_log(server: Server, chunks: bytes) -> None:
    before = len(server.log_text())
    answer = _ask(server, f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks)
    assert b'"error_code":336001' in answer
    assert b"X-Error-Detail: the chunked framing of the body is malformed" in answer
    assert b"Connection: close" in answer
    added = "".join(map(json.dumps, server.log_lines()))
    assert "secret" not in added
    assert "Traceback" not in server.log_text()[before:]


def test_body_that_ends_early_is_336001(server: Server) -> None:
    answer = _ask(server, f"{HEAD}Content-Length: 1000\r\n\r\n".encode() + BODY[:10])
    assert b"X-Error-Detail: the body ended before its announced length" in answer


@pytest.mark.parametrize(
    ("path", "mib"), [(PATH, 7), (f"{PATH}/batch", 31)], ids=["single", "batch"]
)
def test_body_of_millions_of_values_is_refused_before_they_are_made(
    server: Server, path: str, mib: int
) -> None:
    (worker,) = server.worker_pids()
    before = psutil.Process(worker).memory_info().rss
    answer = server.request("POST", path, b"[" + b"[]," * (mib * MIB // 3) + b"[]]")
    assert answer.code == 336001
    assert "JSON values" in answer.detail
    assert psutil.Process(worker).memory_info().rss - before < (4 * mib + 32) * MIB


def test_body_longer_than_any_valid_one_is_336004_and_the_connection_goes_on(
    server: Server, clients: ExitStack
) -> None:
    connection = server.connect()
    clients.callback(connection.close)
    connection.request("POST", PATH, b" " * (9 * MIB))
    response = connection.getresponse()
    assert json.loads(response.read())["error_code"] == 336004
    connection.request("POST", PATH, BODY)
    assert json.loads(connection.getresponse().read())["results"][0]["name"] == "red"


def test_a_head_may_come_in_pieces_behind_a_refused_body(server: Server) -> None:
    too_long = HEAD.encode() + b"Content-Length: %d\r\n\r\n" % (9 * MIB) + b" " * (9 * MIB)
    with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as connection:
        connection.sendall(too_long)
        assert b"336004" in connection.recv(65536)
        connection.sendall(b"GET /healthz HT")
        time.sleep(2.5)  # longer than a refused body may pause
        connection.sendall(b"TP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in connection.recv(65536)


def test_stalled_bodies_make_room_for_others(
    colour_weights: Path, tmp_path: Path, clients: ExitStack
) -> None:
    head = f"POST {PATH}/batch HTTP/1.1\r\nHost: x\r\nContent-Length: {30 * MIB}\r\n\r\n"
    with Server(colour_weights, tmp_path, body_memory_mb=64, read_timeout_s=5) as server:
        (worker,) = server.worker_pids()
        before = psutil.Process(worker).memory_info().rss
        with ThreadPoolExecutor(6) as pool:
            stalled = head.encode() + b" " * (29 * MIB)
            list(pool.map(lambda _: _send_what_is_taken(server, clients, stalled), range(6)))
        assert psutil.Process(worker).memory_info().rss - before < 160 * MIB
        wait_until(
            lambda: server.classify("colours", {"image": RED}).code == 0, wait_s=10, pause_s=0.2
        )
        assert server.request("GET", "/healthz").status == 200


def test_stalled_body_is_evicted_when_its_memory_is_needed(
    colour_weights: Path, tmp_path: Path, clients: ExitStack
) -> None:
    whole = b'{"images": null' + b" " * (30 * MIB) + b"}"
    head = f"POST {PATH}/batch HTTP/1.1\r\nHost: x\r\nContent-Length: {len(whole)}\r\n\r\n"
    with Server(colour_weights, tmp_path, body_memory_mb=64) as server:
        stalled = [_connect(server, clients, head.encode() + whole[:-1]) for _ in range(2)]
        wait_until(lambda: server.request("POST", f"{PATH}/batch", whole).code == 336006, wait_s=20)
        assert b"the body came too slowly" in stalled[0].recv(65536)
        assert "Traceback" not in server.log_text()


def _send_what_is_taken(server: Server, clients: ExitStack, sent: bytes) -> None:
    connection = _connect(server, clients)
    connection.settimeout(3)
    try:
        connection.sendall(sent)
    except OSError:
        return  # refused meanwhile


def test_client_that_never_reads_holds_a_greenlet_at_most_for_the_timeout(
    colour_weights: Path, tmp_path: Path, clients: ExitStack
) -> None:
    pipelined = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 3000
    with Server(colour_weights, tmp_path, write_timeout_s=2) as server:
        (worker,) = server.worker_pids()
        for _ in range(10):
            connection = _connect(server, clients)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(pipelined[:65536])
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.send(pipelined)
        assert server.classify("colours", {"image": RED}).code == 0
        wait_until(lambda: _established(worker) == 0, wait_s=WAIT_S, pause_s=0.2)


def _established(pid: int) -> int:
    sockets = psutil.Process(pid).net_connections("tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED for each in sockets)


def test_stalled_handshakes_stop_nobody(
    colour_weights: Path, tmp_path: Path, clients: ExitStack, certificate: tuple[Path, Path]
) -> None:
    settings = {
        "tls_certificate": certificate[0],
        "tls_key": certificate[1],
        "head_timeout_s": 2,
    }
    server = Server(colour_weights, tmp_path, **settings)
    server.start()
    clients.callback(server.stop)
    server.wait_for_port()
    (worker,) = server.worker_pids()
    context = ssl.create_default_context(cafile=str(certificate[0]))
    stalled = [_connect(server, clients) for _ in range(200)]
    half = [_connect(server, clients, b"\x16\x03\x01\x02\x00\x01") for _ in range(50)]
    plain = _connect(server, clients, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    started = time.monotonic()
    with (
        socket.create_connection(("127.0.0.1", server.port), WAIT_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert secure.recv(65536).startswith(b"HTTP/1.1 200")
    assert time.monotonic() - started < 2
    wait_until(lambda: _established(worker) == 0, wait_s=WAIT_S, pause_s=0.2)
    assert "Traceback" not in server.log_text()
    assert len(stalled) + len(half) + (plain.fileno() >= 0) == 251


def test_clients_that_reset_before_the_handshake_are_not_in_the_log(
    colour_weights: Path, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = {"tls_certificate": certificate[0], "tls_key": certificate[1]}
    with Server(colour_weights, tmp_path, **settings) as server:
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as connection:
                reset = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        assert server.request("GET", "/healthz").status == 200
        assert "Traceback" not in server.log_text()


@pytest.mark.parametrize(
    "sent", [b"", HEAD.encode(), f"{HEAD}Content-Length: 1000\r\n\r\n".encode()]
)
def test_clients_that_take_every_connection_make_room_for_others(
    colour_weights: Path, tmp_path: Path, clients: ExitStack, sent: bytes
) -> None:
    server = Server(colour_weights, tmp_path)
    server.start()
    clients.callback(server.stop)
    # Before the server reads it: it leaves 768 connections.
    resource.prlimit(server.running.pid, resource.RLIMIT_NOFILE, (1024, 1024))
    server.wait_until_ready()
    (worker,) = server.worker_pids()
    slow = [_connect(server, clients, sent) for _ in range(800)]
    assert server.request("GET", "/healthz").status == 200
    assert server.classify("colours", {"image": RED}).code == 0
    assert _established(worker) < 768 <= len(slow)
    assert "Traceback" not in server.log_text()


def test_worker_without_files_for_connections_closes_idle_ones(
    colour_weights: Path, tmp_path: Path, clients: ExitStack
) -> None:
    with Server(colour_weights, tmp_path) as server:
        (worker,) = server.worker_pids()
        few = psutil.Process(worker).num_fds() + 20
        _, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (few, hard))
        idle = [_connect(server, clients) for _ in range(40)]
        assert server.request("GET", "/healthz").status == 200
        assert server.classify("colours", {"image": RED}).code == 0
        assert _established(worker) < len(idle)
        log = server.log_text()
    assert log.count("no connection can be accepted: Too many open files") == 1
    assert "Traceback" not in log


def test_idle_connections_do_not_delay_a_stop(
    colour_weights: Path, tmp_path: Path, clients: ExitStack
) -> None:
    with Server(colour_weights, tmp_path) as server:
        for _ in range(20):
            _connect(server, clients, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").recv(65536)
        _connect(server, clients)
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 15
