"""Calls that find every place taken are shed without Flask, as the views would answer them."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from app.access_tokens import add_token
from tests.support.images import RED, WHITE
from tests.support.packages import build_colour_package, build_slow_with_white_package
from tests.support.server import Answer, Server
from tests.support.waiting import wait_until

PLACES = 2
OCCUPIED_S = 4.0
ENDLESS_S = 3600.0
SETTINGS: dict[str, object] = {
    "max_in_flight": PLACES,
    "inference_threads": 1,
    "deadline_ms": 600_000,
    "hang_timeout_s": 3600,
    "cors_origins": "http://elsewhere",
}
PATH = "/colours/ImageClassification"
BODY = json.dumps({"image": RED}).encode()
WHITE_BODY = json.dumps({"image": WHITE}).encode()
WAIT_S = 60


@contextmanager
def _occupied(server: Server, model: str) -> Iterator[None]:
    """Take every place with white images: for ever by "stuck", for some seconds by "slow"."""
    with ExitStack() as stack:
        for _ in range(PLACES):
            sender = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            target = f"/{model}/ImageClassification"
            sender.sendall(_head(len(WHITE_BODY), target=target) + WHITE_BODY)
        wait_until(lambda: _ask_the_views(server, PATH).code == 336100, wait_s=WAIT_S, pause_s=0.05)
        yield


def _wait_until_free(server: Server) -> None:
    wait_until(
        lambda: server.classify("colours", {"image": RED}).code == 0, wait_s=WAIT_S, pause_s=0.05
    )


def _head(length: int, *lines: str, target: str = PATH) -> bytes:
    text = "\r\n".join(
        [f"POST {target} HTTP/1.1", "Host: server", f"Content-Length: {length}", *lines]
    )
    return f"{text}\r\n\r\n".encode()


def _receive(connection: socket.socket) -> Answer:
    stream = connection.makefile("rb")
    status = int(stream.readline().split()[1])
    headers = {}
    while line := stream.readline().strip().decode():
        name, _, value = line.partition(": ")
        headers[name] = value
    return Answer(status, headers, stream.read(int(headers["Content-Length"])))


def _send(server: Server, request: bytes) -> Answer:
    with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as connection:
        connection.sendall(request)
        return _receive(connection)


def _ask_the_views(server: Server, target: str) -> Answer:
    """Send a call that Flask answers: it comes from a web page of another origin."""
    return _send(server, _head(len(BODY), "Origin: http://elsewhere", target=target) + BODY)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    build_colour_package(folder, "colours", ["red", "green", "blue"])
    build_slow_with_white_package(folder, "slow", OCCUPIED_S)
    build_slow_with_white_package(folder, "stuck", ENDLESS_S)
    return folder


@pytest.fixture(params=["compat", "rest"], scope="module")
def server(
    request: pytest.FixtureRequest, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server all of whose places are taken."""
    with _start(request.param, weights, tmp_path_factory) as server:
        with _occupied(server, "stuck"):
            yield server
        server.kill()


@pytest.fixture(params=["compat", "rest"])
def free_server(
    request: pytest.FixtureRequest, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with _start(request.param, weights, tmp_path_factory) as server:
        yield server


def _start(status: str, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    settings = SETTINGS | {"http_status": status, "error_detail": "body"}
    return Server(weights, tmp_path_factory.mktemp("state"), **settings)


@pytest.mark.parametrize(
    "target", [PATH, f"{PATH}/", f"{PATH}/batch", f"{PATH}/heatmap", f"{PATH}?a=b"]
)
def test_refusal_is_the_one_of_the_views(server: Server, target: str) -> None:
    quick = _send(server, _head(len(BODY), target=target) + BODY)
    usual = _ask_the_views(server, target)
    assert quick.code == usual.code == 336100
    own = {"Date", "X-Log-Id"}
    cors = {name for name in usual.headers if name.startswith("Access-Control")} | {"Vary"}
    assert quick.status == usual.status
    assert quick.headers.keys() == usual.headers.keys() - cors
    assert all(quick.headers[k] == usual.headers[k] for k in quick.headers.keys() - own)
    assert list(quick.json) == list(usual.json)
    assert quick.json | {"log_id": 0} == usual.json | {"log_id": 0}
    assert quick.headers["X-Log-Id"] == str(quick.json["log_id"])
    lines = [server.log_line(answer.json["log_id"]) for answer in (quick, usual)]
    own_fields = {"time", "log_id", "total_ms"}
    told = [{k: v for k, v in line.items() if k not in own_fields} for line in lines]
    assert told[0] == told[1]


def test_the_answer_does_not_wait_for_the_body_and_the_connection_goes_on(
    free_server: Server,
) -> None:
    with socket.create_connection(("127.0.0.1", free_server.port), WAIT_S) as connection:
        with _occupied(free_server, "slow"):
            for _ in range(2):
                connection.sendall(_head(len(BODY)) + BODY[:10])
                assert _receive(connection).code == 336100
                connection.sendall(BODY[10:])
        _wait_until_free(free_server)
        connection.sendall(_head(len(BODY)) + BODY)
        assert _receive(connection).json["results"][0]["name"] == "red"


def test_what_comes_before_the_places_is_answered_first(server: Server) -> None:
    unknown = server.classify("nobody", {"image": RED})
    assert (unknown.code, unknown.detail) == (
        336001,
        "no model is deployed under this name",
    )
    assert server.request("GET", "/healthz").status == 200
    assert server.request("GET", PATH).code == 336001
    assert server.request("POST", "/elsewhere", BODY).status == 404


def test_a_client_that_goes_away_costs_nothing(free_server: Server) -> None:
    with _occupied(free_server, "slow"):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", free_server.port), WAIT_S) as connection:
                connection.sendall(_head(10**6) + b"{")
                assert _receive(connection).code == 336100
        for _ in range(20):
            socket.create_connection(("127.0.0.1", free_server.port), WAIT_S).close()
        assert free_server.classify("colours", {"image": RED}).code == 336100
    _wait_until_free(free_server)
    assert "Traceback" not in free_server.log_text()


def test_refusals_are_counted(server: Server) -> None:
    before = server.request("GET", "/metrics").body.decode()
    for _ in range(5):
        assert _send(server, _head(len(BODY)) + BODY).code == 336100
    after = server.request("GET", "/metrics").body.decode()
    for series in (
        'classifyd_requests_total{code="336100",deploy_name="colours"}',
        'classifyd_requests_shed_total{deploy_name="colours",reason="busy"}',
    ):
        counts = [
            float(line.split()[1])
            for text in (before, after)
            for line in text.splitlines()
            if line.startswith(series)
        ]
        assert counts[1] - counts[0] == 5


def test_tokens_are_asked_for_before_the_places(weights: Path, tmp_path: Path) -> None:
    token = add_token(tmp_path / "tokens.json", "till")
    with Server(weights, tmp_path, **SETTINGS, access_tokens="on") as server, ExitStack() as stack:
        header = f"Authorization: Bearer {token}"
        for _ in range(PLACES):
            sender = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            target = "/stuck/ImageClassification"
            sender.sendall(_head(len(WHITE_BODY), header, target=target) + WHITE_BODY)
        in_query = _head(len(BODY), target=f"{PATH}?access_token={token}") + BODY
        wait_until(lambda: _send(server, in_query).code == 336100, wait_s=WAIT_S, pause_s=0.05)
        assert _send(server, _head(len(BODY)) + BODY).code == 337000
        wrong = _send(server, _head(len(BODY), "Authorization: Bearer nonsense") + BODY)
        assert wrong.code == 337000
        assert server.log_text().count(token) == 0
        server.kill()


def test_a_client_that_is_refused_without_a_pause_does_not_stop_the_others(server: Server) -> None:
    pipelined = _head(0) * 2000
    stopped = threading.Event()
    with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as connection:

        def send() -> None:
            while not stopped.is_set():
                connection.sendall(pipelined)

        def read() -> None:
            while connection.recv(1 << 20):
                pass

        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(send), pool.submit(read)]
            try:
                for _ in range(20):
                    assert server.request("GET", "/healthz").status == 200
            finally:
                stopped.set()
                calls[0].result()
                connection.shutdown(socket.SHUT_WR)
                calls[1].result()
