"""Switch a running server between two versions under the load of 8 connections.

    .venv/bin/python -m benchmarks.swap --switches 50 --engine openvino

The demo model is version 1; version 2 is the same network behind another crop, so that every
score differs. Every answer is compared with those that each version gave before the load. The
client is a process of its own and shares the machine with the server.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from app.cli.package.rollout import wait_until_served
from app.packages.changes import activate
from app.settings import PROJECT_ROOT, Settings
from tests.support.images import PHOTOS, to_base64
from tests.support.server import Server

NAMES = ("coffee.jpg", "rocket.jpg", "flower.jpg")
QUIET_S = 15
"""How long the load runs without a switch, for comparison."""

FIRST_SWITCH_TIMEOUT_S = 300
"""Before it the engines are measured, once for each version."""

PATH = "/imagenet/ImageClassification"
FRACTION = {"1": 0.875, "2": 0.7}


@dataclass
class Seen:
    """One answer: when it came, how long it took, and which version it names."""

    at: float
    took_s: float
    version: str
    photo: str
    results: Any


def build_versions(weights: Path) -> None:
    """Copy the demo package as version 1 and, with another crop, as version 2."""
    for version, fraction in FRACTION.items():
        folder = weights / "imagenet" / version
        shutil.copytree(PROJECT_ROOT / "weights" / "imagenet" / "1", folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["version"] = version
        manifest["preprocess"][1]["fraction_of_shortest_side"] = fraction
        # They hold the scores of one crop, so the other crop would be refused.
        manifest.pop("golden", None)
        (folder / "manifest.json").write_text(json.dumps(manifest))
    (weights / "imagenet" / "ACTIVE").write_text("1\n")


def ask(connection: HTTPConnection, photo: str, body: bytes) -> Seen:
    """Send one request on an open connection; raise when the answer is no result."""
    started = time.monotonic()
    connection.request("POST", PATH, body)
    response = connection.getresponse()
    answer = json.loads(response.read())
    ended = time.monotonic()
    version = response.headers["X-Model-Version"]
    return Seen(ended, ended - started, version, photo, answer["results"])


def ask_until(over: threading.Event, server: Server, bodies: dict[str, bytes]) -> list[Seen]:
    """Send requests on one connection until told to stop."""
    connection, seen = server.connect(), []
    while not over.is_set():
        for photo, body in bodies.items():
            seen.append(ask(connection, photo, body))
    connection.close()
    return seen


def switch_under_load(server: Server, settings: Settings, switches: int, bodies: Any) -> Any:
    """Switch back and forth under load; the answers, failures, memory and durations."""
    over, seen, failures, memory_mib, took_s = threading.Event(), [], [], [], []

    def run() -> None:
        try:
            seen.extend(ask_until(over, server, bodies))
        except Exception as exc:
            failures.append(repr(exc))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    (pid,) = server.worker_pids()
    time.sleep(QUIET_S)
    for index in range(switches):
        started = time.monotonic()
        activation = activate(settings.weights_dir, "imagenet", "21"[index % 2])
        wait_until_served(settings, activation, 60)
        took_s.append(time.monotonic() - started)
        memory_mib.append(psutil.Process(pid).memory_info().rss / 2**20)
    over.set()
    for thread in threads:
        thread.join()
    return seen, failures, memory_mib, took_s


def report(seen: list[Seen], expected: Any, quiet: list[Seen]) -> None:
    """Print what the answers show."""
    wrong = [one for one in seen if expected[one.version, one.photo] != one.results]
    times = sorted(one.at for one in seen)
    gaps = sorted(later - earlier for earlier, later in zip(times, times[1:], strict=False))
    long_gaps = [round(gap * 1000) for gap in gaps if gap > 0.5]
    took = sorted(one.took_s * 1000 for one in seen)
    print(f"answers        {len(seen)}, {len(seen) / (times[-1] - times[0]):.0f} a second")
    print(f"by version     { ({v: sum(o.version == v for o in seen) for v in '12'}) }")
    print(f"wrong          {len(wrong)}")
    print(f"longest gap    {gaps[-1] * 1000:.0f} ms without an answer on any connection")
    print(f"above 500 ms   {long_gaps}")
    print(
        f"latency        p50 {statistics.median(took):.0f}, p99 {took[int(len(took) * 0.99)]:.0f}"
    )
    print(f"               slowest {took[-1]:.0f} ms")
    rest = sorted(one.at for one in quiet)
    still = max(later - earlier for earlier, later in zip(rest, rest[1:], strict=False))
    slowest = max(one.took_s for one in quiet) * 1000
    rate = len(quiet) / (rest[-1] - rest[0])
    print(f"unswitched     {rate:.0f} a second, longest gap {still * 1000:.0f} ms,")
    print(f"               slowest {slowest:.0f} ms")


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--switches", type=int, default=50)
    parser.add_argument("--engine", choices=["auto", "openvino", "torchscript"], default="auto")
    options = parser.parse_args()
    bodies = {
        name: json.dumps({"image": to_base64((PHOTOS / name).read_bytes())}).encode()
        for name in NAMES
    }
    with tempfile.TemporaryDirectory() as folder:
        weights, state = Path(folder, "weights"), Path(folder, "state")
        state.mkdir()
        build_versions(weights)
        settings = Settings(weights_dir=weights, state_dir=state)
        with Server(weights, state, engine=options.engine) as server:
            expected = {}
            for version in ("2", "1"):
                activation = activate(weights, "imagenet", version)
                wait_until_served(settings, activation, FIRST_SWITCH_TIMEOUT_S)
                for photo, body in bodies.items():
                    with closing(server.connect()) as connection:
                        one = ask(connection, photo, body)
                    expected[one.version, photo] = one.results
            quiet, *_ = switch_under_load(server, settings, 0, bodies)
            seen, failures, memory_mib, took_s = switch_under_load(
                server, settings, options.switches, bodies
            )
    report(seen, expected, quiet)
    print("load average   " + " ".join(f"{load:.1f}" for load in os.getloadavg()))
    print(f"failed         {len(failures)} connections {failures[:3]}")
    print(f"a switch took  p50 {statistics.median(took_s):.1f} s, longest {max(took_s):.1f} s")
    print("worker memory  " + " ".join(f"{mib:.0f}" for mib in memory_mib) + " MiB")


if __name__ == "__main__":
    main()
