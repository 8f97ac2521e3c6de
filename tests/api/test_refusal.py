"""Calls that find every place taken: refused on their head, as the views would."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from app.access_tokens import add_token
from tests.support.images import RED
from tests.support.server import Answer, Server

PLACES = 2
PATH = "/colours/ImageClassification"
BODY = json.dumps({"image": RED}).encode()
WAIT_S = 10


@contextmanager
def _full(server: Server) -> Iterator[None]:
    """Take every place, with calls whose bodies never end."""
    with ExitStack() as stack:
        deadline = time.monotonic() + WAIT_S
        # The views count who is inside, the quick way also who is on his way to them. Who asks
        # takes a place too, for which one of these may have been refused.
        while _ask_the_views(server, PATH).code == 0:
            assert time.monotonic() < deadline, "the places are not taken"
            sender = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            sender.sendall(_head(1000) + b"{")
        yield


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
    """Send a call whose head is of no kind that is looked at outside the views."""
    chunked = _head(0, "Transfer-Encoding: chunked", target=target)
    chunked = chunked.replace(b"Content-Length: 0\r\n", b"")
    return _send(server, chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))


@pytest.fixture(params=["compat", "rest"])
def server(
    request: pytest.FixtureRequest, colour_weights: Path, tmp_path: Path
) -> Iterator[Server]:
    settings = {"max_in_flight": PLACES, "http_status": request.param, "error_detail": "body"}
    with Server(colour_weights, tmp_path, **settings) as server:
        yield server


@pytest.mark.parametrize("target", [PATH, f"{PATH}/", f"{PATH}/batch", f"{PATH}?a=b"])
def test_refusal_is_the_one_of_the_views(server: Server, target: str) -> None:
    with _full(server):
        quick = _send(server, _head(len(BODY), target=target) + BODY)
        usual = _ask_the_views(server, target)
        assert quick.code == usual.code == 336100
        own = {"Date", "X-Log-Id"}
        assert quick.status == usual.status
        assert quick.headers.keys() == usual.headers.keys()
        assert all(quick.headers[k] == usual.headers[k] for k in quick.headers.keys() - own)
        assert list(quick.json) == list(usual.json)
        assert quick.json | {"log_id": 0} == usual.json | {"log_id": 0}
        assert quick.headers["X-Log-Id"] == str(quick.json["log_id"])
        lines = [server.log_line(answer.json["log_id"]) for answer in (quick, usual)]
        own_fields = {"time", "log_id", "total_ms"}
        told = [{k: v for k, v in line.items() if k not in own_fields} for line in lines]
        assert told[0] == told[1]


def test_the_answer_does_not_wait_for_the_body_and_the_connection_goes_on(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as connection:
        with _full(server):
            for _ in range(2):
                connection.sendall(_head(len(BODY)) + BODY[:10])
                assert _receive(connection).code == 336100
                connection.sendall(BODY[10:])
        deadline = time.monotonic() + WAIT_S
        answer = None
        while answer is None or answer.code == 336100:
            assert time.monotonic() < deadline
            connection.sendall(_head(len(BODY)) + BODY)
            answer = _receive(connection)
        assert answer.json["results"][0]["name"] == "red"


def test_what_comes_before_the_places_is_answered_first(server: Server) -> None:
    with _full(server):
        unknown = server.classify("nobody", {"image": RED})
        assert (unknown.code, unknown.detail) == (
            336001,
            "no model is deployed under this name",
        )
        assert server.request("GET", "/healthz").status == 200
        assert server.request("GET", PATH).code == 336001
        assert server.request("POST", "/elsewhere", BODY).status == 404


def test_a_client_that_goes_away_costs_nothing(server: Server) -> None:
    with _full(server):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as connection:
                connection.sendall(_head(10**6) + b"{")
                assert _receive(connection).code == 336100
        for _ in range(20):
            socket.create_connection(("127.0.0.1", server.port), WAIT_S).close()
        assert server.classify("colours", {"image": RED}).code == 336100
    deadline = time.monotonic() + WAIT_S
    while server.classify("colours", {"image": RED}).code:
        assert time.monotonic() < deadline
    assert "Traceback" not in server.log_text()


def test_refusals_are_counted(server: Server) -> None:
    with _full(server):
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


def test_tokens_are_asked_for_before_the_places(colour_weights: Path, tmp_path: Path) -> None:
    token = add_token(tmp_path / "tokens.json", "till")
    settings = {"max_in_flight": PLACES, "access_tokens": "on"}
    with Server(colour_weights, tmp_path, **settings) as server, ExitStack() as stack:
        header = f"Authorization: Bearer {token}"
        for _ in range(PLACES):
            sender = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            sender.sendall(_head(1000, header) + b"{")
        deadline = time.monotonic() + WAIT_S
        while _send(server, _head(len(BODY), header) + BODY).code == 0:
            assert time.monotonic() < deadline
        in_query = f"{PATH}?access_token={token}"
        assert _send(server, _head(len(BODY), target=in_query) + BODY).code == 336100
        assert _send(server, _head(len(BODY)) + BODY).code == 337000
        wrong = _send(server, _head(len(BODY), "Authorization: Bearer nonsense") + BODY)
        assert wrong.code == 337000
        assert server.log_text().count(token) == 0


def test_silent_connections_hold_no_thread(colour_weights: Path, tmp_path: Path) -> None:
    with Server(colour_weights, tmp_path, max_in_flight=PLACES) as server, ExitStack() as stack:
        # More than there are threads; each would hold one for five seconds.
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        connection = HTTPConnection("127.0.0.1", server.port, timeout=3)
        connection.request("POST", PATH, BODY)
        assert json.loads(connection.getresponse().read())["results"][0]["name"] == "red"
        connection.close()
