"""Three nodes behind HAProxy, of which some fail or are upgraded, under 64 connections.

    sudo .venv/bin/python -m benchmarks.nodes --seconds 60

Each node is a server in a network namespace of its own (ip-netns(8), so this needs root), with
weights and a state folder of its own. HAProxy runs with ``deploy/haproxy.cfg``, TLS included. The
demo model is version 1; version 2, to which nodes are upgraded, is the same network behind another
crop, so that every score differs. Every answer is compared with what a node with nothing else to do
answers for its version.
"""

import argparse
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from app.packages.changes import activate
from benchmarks.server import Server
from benchmarks.support import PATH, make_parser, publish, show_status, table
from benchmarks.swap import NAMES, build_versions
from tests.support.images import PHOTOS, to_base64
from tests.support.proxies import Haproxy

TIMEOUT_S = 70
"""HAProxy's own limit is 60 s."""

DRAIN_TIMEOUT_S = 30
NETWORK = "10.213"

Act = Callable[["Cluster", float], None]


class Node:
    """A server in a network namespace."""

    def __init__(self, folder: Path, index: int, settings: Iterable[tuple[str, str]]) -> None:
        self.name, self.namespace = f"node{index}", f"classifyd-{os.getpid()}-{index}"
        self._gate = f"cfd{os.getpid() % 100000}-{index}"
        self.address = f"{NETWORK}.{index}.2"
        self._weights = folder / "weights"
        build_versions(self._weights)
        own = [("weights_dir", str(self._weights)), ("bind", "0.0.0.0")]  # noqa: S104 - in its namespace
        own += [("engine", "openvino"), ("workers", "1"), ("node_id", str(index))]
        prefix = ("ip", "netns", "exec", self.namespace)
        self.server = Server(
            folder / "state", prefix=prefix, settings=[*own, *settings], host=self.address
        )
        self._running = ExitStack()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Have the namespace for the length of a block; the server is stopped at its end."""
        inside = f"ip -n {self.namespace}"
        try:
            _run(f"ip netns add {self.namespace}")
            _run(f"ip link add {self._gate} type veth peer name eth0 netns {self.namespace}")
            _run(f"ip address add {self.address[:-1]}1/30 dev {self._gate}")
            _run(f"{inside} address add {self.address}/30 dev eth0")
            for command in (f"ip link set {self._gate}", f"{inside} link set eth0"):
                _run(f"{command} up")
            _run(f"{inside} link set lo up")
            yield
        finally:
            self.stop()
            subprocess.run(["ip", "netns", "delete", self.namespace], check=False)

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        self._running.enter_context(self.server.running())

    def stop(self) -> None:
        """Stop the server in order."""
        self._running.close()

    def upgrade(self) -> None:
        """Activate the other version; the server must have been stopped."""
        activate(self._weights, "imagenet", "2")


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)


class Cluster:
    """Nodes behind HAProxy."""

    def __init__(self, nodes: list[Node], proxy: Haproxy) -> None:
        self.nodes, self.proxy = nodes, proxy
        self.held = 0
        """Requests of a node when it was killed or stopped."""

    def set_state(self, node: Node, state: str) -> None:
        """Set the state of a node in HAProxy: drain or ready."""
        answer = self.proxy.command(f"set server classifyd/{node.name} state {state}")
        assert not answer.strip(), answer

    def replace(self, node: Node) -> None:
        """Upgrade a node: drain, stop, change, start, use it again."""
        self.set_state(node, "drain")
        end = time.monotonic() + DRAIN_TIMEOUT_S
        while self.proxy.held_by(node.name) and time.monotonic() < end:
            time.sleep(0.1)
        node.stop()
        node.upgrade()
        node.start()
        self.set_state(node, "ready")

    def strike(self, node: Node, number: int) -> None:
        """Send a signal to all processes of a node, and note what it holds."""
        self.held = self.proxy.held_by(node.name)
        node.server.signal(number)


@contextmanager
def running_cluster(folder: Path, count: int, settings: Any) -> Iterator[Cluster]:
    """Run some nodes behind HAProxy for the length of a block."""
    with ExitStack() as stack:
        nodes = [Node(folder / str(index), index, settings) for index in range(1, count + 1)]
        for node in nodes:
            stack.enter_context(node.connected())
            node.start()
        lines = [f"    server {node.name} {node.address}:{node.server.port}" for node in nodes]
        changes = [("    server node1 127.0.0.1:1", "\n".join(lines))]
        proxy = Haproxy(folder, 1, changes=changes)
        yield Cluster(nodes, stack.enter_context(proxy))


@dataclass
class Outcome:
    """What the callers saw.

    Attributes:
        at: when each result came, in seconds.
        slowest_s: the longest that a result took.
        results: how often each version gave each photo which results.
        wrong: how many of them differ from what the version answers without load.
        lost: causes of what was no result, with how often each came.
        held: requests of the node that was killed or frozen, at that moment.
    """

    duration_s: float = 0.0
    at: list[float] = field(default_factory=list)
    slowest_s: float = 0.0
    results: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    wrong: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    held: int = 0

    def rate(self) -> float:
        """Results a second."""
        return len(self.at) / self.duration_s

    def longest_gap_s(self) -> float:
        """The longest time without a result on any connection."""
        times = sorted(self.at)
        return max((b - a for a, b in zip(times, times[1:], strict=False)), default=0.0)

    def versions(self) -> Counter[str]:
        """How many results each version gave."""
        counts: Counter[str] = Counter()
        for (version, _, _), count in self.results.items():
            counts[version] += count
        return counts

    def compare(self, expected: Mapping[tuple[str, str], str]) -> None:
        """Count the wrong results."""
        self.wrong = sum(
            count
            for (version, photo, results), count in self.results.items()
            if results != expected[version, photo]
        )

    def figures(self) -> dict[str, Any]:
        """What the JSON says."""
        return {
            "seconds": round(self.duration_s, 1),
            "results": len(self.at),
            "results_per_s": round(self.rate(), 1),
            "held": self.held,
            "lost": dict(self.lost),
            "wrong": self.wrong,
            "longest_gap_s": round(self.longest_gap_s(), 3),
            "slowest_s": round(self.slowest_s, 3),
            "versions": dict(self.versions()),
        }


class Callers:
    """Callers that send one request after the other, each on a connection of its own.

    Args:
        open_connection: makes a connection.
        bodies: the body of each photo.
    """

    def __init__(
        self, open_connection: Callable[[], HTTPConnection], bodies: dict[str, bytes]
    ) -> None:
        self._open, self._bodies = open_connection, bodies
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.outcome = Outcome()

    def run(self, count: int, work: Callable[[], None]) -> Outcome:
        """Let the callers run while a function works."""
        threads = [threading.Thread(target=self._call) for _ in range(count)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            work()
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        self.outcome.duration_s = time.monotonic() - started
        return self.outcome

    def _call(self) -> None:
        while not self._over.is_set():
            connection = self._open()
            try:
                while not self._over.is_set():
                    for photo, body in self._bodies.items():
                        self._ask(connection, photo, body)
            except (OSError, HTTPException) as exc:
                self._lose(type(exc).__name__)
            finally:
                connection.close()

    def _ask(self, connection: HTTPConnection, photo: str, body: bytes) -> None:
        started = time.monotonic()
        connection.request("POST", PATH, body)
        response = connection.getresponse()
        answer = json.loads(response.read())
        ended = time.monotonic()
        if "results" not in answer:
            self._lose(f"{answer['error_code']} {response.headers['X-Error-Detail']}")
            return
        version = response.headers["X-Model-Version"]
        with self._lock:
            self.outcome.at.append(ended)
            self.outcome.slowest_s = max(self.outcome.slowest_s, ended - started)
            self.outcome.results[version, photo, json.dumps(answer["results"])] += 1

    def _lose(self, cause: str) -> None:
        with self._lock:
            self.outcome.lost[cause] += 1
        time.sleep(0.1)


def stay_quiet(cluster: Cluster, seconds: float) -> None:
    """Let nothing happen."""
    time.sleep(seconds)


def kill_one(cluster: Cluster, seconds: float) -> None:
    """Kill all processes of a node after a third of the time."""
    time.sleep(seconds / 3)
    cluster.strike(cluster.nodes[0], signal.SIGKILL)
    time.sleep(seconds * 2 / 3)


def freeze_one(cluster: Cluster, seconds: float) -> None:
    """Stop all processes of a node for two thirds of the time."""
    time.sleep(seconds / 6)
    cluster.strike(cluster.nodes[0], signal.SIGSTOP)
    try:
        time.sleep(seconds * 2 / 3)
    finally:
        cluster.nodes[0].server.signal(signal.SIGCONT)
    time.sleep(seconds / 6)


def upgrade_one(cluster: Cluster, seconds: float) -> None:
    """Drain and upgrade a node."""
    end = time.monotonic() + seconds
    time.sleep(seconds / 6)
    cluster.replace(cluster.nodes[0])
    time.sleep(max(seconds / 6, end - time.monotonic()))


def upgrade_all(cluster: Cluster, seconds: float) -> None:
    """Drain and upgrade all nodes, one after the other."""
    end = time.monotonic() + seconds
    time.sleep(seconds / 6)
    for node in cluster.nodes:
        cluster.replace(node)
    time.sleep(max(seconds / 6, end - time.monotonic()))


SCENARIOS: dict[str, tuple[str, int, bool, Act]] = {
    "direct": ("one node, without HAProxy", 1, False, stay_quiet),
    "one": ("one node behind HAProxy", 1, True, stay_quiet),
    "three": ("three nodes", 3, True, stay_quiet),
    "killed": ("one of three killed (SIGKILL)", 3, True, kill_one),
    "frozen": ("one of three frozen (SIGSTOP)", 3, True, freeze_one),
    "upgraded": ("one of three drained and upgraded", 3, True, upgrade_one),
    "rolling": ("all three upgraded in turn", 3, True, upgrade_all),
}


def measure(name: str, options: argparse.Namespace, bodies: dict[str, bytes]) -> Outcome:
    """Run one scenario in nodes of its own."""
    title, count, is_balanced, act = SCENARIOS[name]
    with (
        tempfile.TemporaryDirectory() as folder,
        running_cluster(Path(folder), count, options.setting) as cluster,
    ):
        first = cluster.nodes[0]
        expected = _ask_quietly(first, bodies)
        show_status(f"{title} …")

        def open_connection() -> HTTPConnection:
            if is_balanced:
                return cluster.proxy.connect(TIMEOUT_S)
            return first.server.connect(TIMEOUT_S)

        callers = Callers(open_connection, bodies)
        outcome = callers.run(options.connections, lambda: act(cluster, options.seconds))
        outcome.held = cluster.held
        if act in (upgrade_one, upgrade_all):
            expected |= _ask_quietly(first, bodies)
        outcome.compare(expected)
        return outcome


def _ask_quietly(node: Node, bodies: dict[str, bytes]) -> dict[tuple[str, str], str]:
    """The results of a node's version for each photo."""
    results = {}
    for photo, body in bodies.items():
        with closing(node.server.connect(TIMEOUT_S)) as connection:
            connection.request("POST", PATH, body)
            response = connection.getresponse()
            answer = json.loads(response.read())
            version = response.headers["X-Model-Version"]
            results[version, photo] = json.dumps(answer["results"])
    return results


def _row(name: str, outcome: Outcome) -> list[str]:
    lost = ", ".join(f"{count} {cause}" for cause, count in outcome.lost.items())
    return [
        SCENARIOS[name][0],
        f"{outcome.duration_s:.0f} s",
        f"{len(outcome.at)}",
        f"{outcome.rate():.1f}",
        f"{outcome.held or ''}",
        lost or "0",
        f"{outcome.wrong}",
        f"{outcome.longest_gap_s():.2f} s",
        f"{outcome.slowest_s:.1f} s",
    ]


HEAD = ("nodes", "time", "results", "per second", "held", "lost", "wrong", "gap", "slowest")


def main() -> None:
    """Run the scenarios and print the figures."""
    parser = make_parser(__doc__, "nodes")
    parser.add_argument("--seconds", type=float, default=60, help="of each scenario")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="may be repeated")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that namespaces are removed
    bodies = {
        name: json.dumps({"image": to_base64((PHOTOS / name).read_bytes())}).encode()
        for name in NAMES
    }
    outcomes = {name: measure(name, options, bodies) for name in options.only or SCENARIOS}
    text = table(HEAD, [_row(name, outcome) for name, outcome in outcomes.items()])
    publish(options, text, {name: outcome.figures() for name, outcome in outcomes.items()})


if __name__ == "__main__":
    main()
