"""Two nodes behind HAProxy: a burst, a drain, and one that is killed."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from app.observability.log_ids import origin_of
from tests.support.images import GREEN, RED
from tests.support.packages import build_colour_package, build_slow_package
from tests.support.proxies import Haproxy
from tests.support.server import Answer, Server
from tests.support.waiting import wait_until

PLACES = 2
"""Requests that HAProxy has a node answer at once, some fewer than the node admits: each of
HAProxy's threads may exceed it by one."""

CALLS = {"red": json.dumps({"image": RED}).encode(), "green": json.dumps({"image": GREEN}).encode()}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Server]]:
    """Two servers; the version of their package tells them apart."""
    with ExitStack() as stack:
        servers = []
        for number in (1, 2):
            weights, state = tmp_path / f"weights{number}", tmp_path / f"state{number}"
            state.mkdir()
            build_colour_package(weights, "colours", ["red", "green", "blue"], str(number))
            build_slow_package(weights, "slow", 0.03)
            servers.append(Server(weights, state, max_in_flight=PLACES + 6, node_id=number))
            servers[-1].start()
            stack.callback(servers[-1].kill)
        for server in servers:
            server.wait_until_ready("/readyz")
        yield servers


@pytest.fixture
def syslog() -> Iterator[socket.socket]:
    """What HAProxy logs to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(60)
        yield listener


@pytest.fixture
def proxy(nodes: list[Server], syslog: socket.socket, tmp_path: Path) -> Iterator[Haproxy]:
    changes = [
        ("# server node2 192.0.2.12:8000", f"server node2 127.0.0.1:{nodes[1].port}"),
        ("maxconn 76", f"maxconn {PLACES}"),
        ("log /dev/log", f"log 127.0.0.1:{syslog.getsockname()[1]}"),
    ]
    with Haproxy(tmp_path, nodes[0].port, changes=changes) as running:
        yield running


def _ask(proxy: Haproxy, colour: str, name: str = "colours") -> Answer:
    answer = proxy.request("POST", f"/{name}/ImageClassification", CALLS[colour])
    if name == "colours" and not answer.code:
        assert answer.json["results"][0]["name"] == colour
    return answer


def _node_of(answer: Answer) -> str:
    return {key.lower(): value for key, value in answer.headers.items()}["x-model-version"]


def test_nodes_share_a_burst_a_drain_and_a_death(
    nodes: list[Server], proxy: Haproxy, syslog: socket.socket
) -> None:
    # Twice what both nodes admit at once, so some of it waits in HAProxy.
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: _ask(proxy, "red", "slow"), range(64)))
    assert _lost(answers) == []
    log_ids = [answer.json["log_id"] for answer in answers]
    assert len(set(log_ids)) == 64
    assert {origin_of(log_id).node for log_id in log_ids} == {1, 2}

    # HTTP says 200; the log tells a monitor the code.
    wrong = proxy.request("POST", "/colours/ImageClassification", b"{}")
    assert (wrong.status, wrong.code) == (200, 336006)
    shown, line = f"{{336006|{wrong.json['log_id']}}}", ""
    while shown not in line:
        line = syslog.recv(65536).decode()
    assert " 200 " in line

    for node, other in (("node1", "2"), ("node2", "1")):
        proxy.command(f"set server classifyd/{node} state drain")
        assert {_node_of(_ask(proxy, "red")) for _ in range(10)} == {other}
        proxy.command(f"set server classifyd/{node} state ready")

    results = _ask_until_killed(nodes[1], proxy)
    assert _lost(results) == []
    assert {_node_of(answer) for answer in results[-10:]} == {"1"}

    # None is left.
    _kill(nodes[0])
    last = _ask(proxy, "red")
    assert (last.status, last.code) == (200, 336100)
    assert last.headers["retry-after"] == "5"


def _lost(answers: list[Answer]) -> list[str]:
    """The causes of what is no result."""
    return [str(answer.headers) for answer in answers if answer.code]


def _ask_until_killed(node: Server, proxy: Haproxy) -> list[Answer]:
    """Kill a node while eight callers ask; what it held is asked of the other."""
    answers: list[Answer] = []
    over = threading.Event()

    def call(colour: str) -> None:
        while not over.is_set():
            answers.append(_ask(proxy, colour))

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(call, colour) for colour in ("red", "green") * 4]
        try:
            wait_until(lambda: {"1", "2"} <= {_node_of(answer) for answer in answers})
            _kill(node)
            before = len(answers)
            wait_until(lambda: len(answers) > before + 100)
        finally:
            over.set()
        for caller in callers:
            caller.result()
    return answers


def _kill(node: Server) -> None:
    master = psutil.Process(node.running.pid)
    for process in [*master.children(recursive=True), master]:
        process.kill()
    master.wait()
