"""``make bench``: the raw loop, classifyd and its peers, in one run on this machine.

Every server gets the same body from the same load generator. The servers take turns, round
after round, and the median of the rounds counts; one server runs at a time.
"""

import argparse
import base64
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.bench.connections import Target
from app.bench.load import ClosedLoop, run_load
from app.bench.report import percentile
from app.bench.result import LoadResult
from app.packages.store import active_version
from app.reporting.charts import line_plot
from app.settings import PROJECT_ROOT
from app.system.cpus import cpu_model, usable_cpus

HERE = PROJECT_ROOT / "benchmarks"
PEERS_BIN = HERE / ".venv/bin"
LEVELS = (1, 2, 4, 8, 16, 64)
START_TIMEOUT_S = 120


@dataclass(frozen=True)
class Peer:
    """A server to measure: how it is started on PORT, and where it takes the body."""

    name: str
    command: tuple[str, ...]
    path: str
    as_list: bool = False

    def body(self, image: str) -> bytes:
        """The request's body; BentoML's batches take a list."""
        return json.dumps({"image": [image] if self.as_list else image}).encode()


PEERS = (
    Peer("classifyd", (sys.executable, "-m", "gunicorn"), "/imagenet/ImageClassification"),
    Peer("Flask development server", ("python", "flask_dev.py", "PORT"), "/predict"),
    Peer("LitServe", ("python", "litserve_server.py", "PORT"), "/predict"),
    Peer("mosec", ("python", "mosec_server.py", "--port", "PORT"), "/inference"),
    Peer(
        "BentoML",
        ("bentoml", "serve", "bentoml_service:Classifier", "-p", "PORT"),
        "/predict",
        True,
    ),
    *(
        (Peer("TorchServe", ("python", "torchserve_server.py", "PORT"), "/predictions/classifier"),)
        if shutil.which("java")  # it runs on one
        else ()
    ),
)


def main() -> None:
    """Run everything and write ``benchmarks/results/``."""
    options = _options()
    package = active_version(PROJECT_ROOT / "weights/imagenet")
    rates: dict[tuple[str, int], list[float]] = {}
    tails: dict[tuple[str, int], list[float]] = {}
    raw: list[float] = []
    for number in range(options.rounds):
        raw.append(_raw_loop(package, options.photo, options.duration * 3))
        for peer in PEERS:
            _say(f"round {number + 1} of {options.rounds}: {peer.name}")
            for level, result in _measure(peer, package, options).items():
                times = result.answered()
                rates.setdefault((peer.name, level), []).append(result.throughput())
                tails.setdefault((peer.name, level), []).append(
                    percentile(times, 0.99) / max(percentile(times, 0.5), 1e-9)
                )
        raw.append(_raw_loop(package, options.photo, options.duration * 3))
    text = _report(statistics.median(raw), rates, tails, options)
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    (folder / "bench.md").write_text(text, encoding="utf-8")
    medians = [statistics.median(rates["classifyd", level]) for level in LEVELS]
    series = [("results/s", medians)]
    chart = line_plot("classifyd, results/s", "connections", list(map(str, LEVELS)), series)
    (folder / "bench.svg").write_text(chart, encoding="utf-8")
    sys.stdout.write(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument("--photo", type=Path, default=PROJECT_ROOT / "tests/photos/coffee.jpg")
    parser.add_argument("--duration", type=float, default=5, help="seconds a load")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _raw_loop(package: Path, photo: Path, time_s: float) -> float:
    _say("raw loop")
    command = [sys.executable, str(HERE / "raw_loop.py"), str(package), str(photo), str(time_s)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "PYTHONWARNINGS": "ignore"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(json.loads(ended.stdout.splitlines()[-1])["rate"])


def _measure(peer: Peer, package: Path, options: argparse.Namespace) -> dict[int, LoadResult]:

    image = base64.b64encode(options.photo.read_bytes()).decode()
    with _running(peer, package) as port:
        target = Target("127.0.0.1", port, peer.path, [peer.body(image)])
        warm = run_load(target, ClosedLoop(8), 3)
        _require_same_class(peer, warm)
        return {level: run_load(target, ClosedLoop(level), options.duration) for level in LEVELS}


def _require_same_class(peer: Peer, result: LoadResult) -> None:
    answer = json.loads(result.last_answer or b"{}")
    first = answer[0] if isinstance(answer, list) else answer
    found = (first.get("results") or [{"name": "nothing"}])[0]["name"]
    if found != "espresso":
        raise SystemExit(f"{peer.name} answers {found}, expected espresso")


@contextmanager
def _running(peer: Peer, package: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    is_ours = peer.name == "classifyd"
    command = [str(port) if part == "PORT" else part for part in peer.command]
    environment = {
        **os.environ,
        "CLASSIFYD_PORT": str(port),
        "BENCH_MODEL": str(package / "model.pt"),
        "BENCH_LABELS": str(package / "labels.txt"),
        # None of them may report its use to anybody.
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
    }
    if not is_ours:
        command[0] = str(PEERS_BIN / command[0])
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=PROJECT_ROOT if is_ours else HERE / "peers",
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait_for(port, peer, process)
            yield port
        finally:
            # The whole session: the peers start processes that outlive a killed parent.
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_for(port: int, peer: Peer, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_TIMEOUT_S
    probe = Target("127.0.0.1", port, peer.path, [peer.body("")])
    while time.monotonic() < end and process.poll() is None:
        # Any answer at all shows that the model is loaded: also a refusal of the empty image.
        if any(code != -1 for code in run_load(probe, ClosedLoop(1), 0.2).latencies_ms):
            return
    raise SystemExit(f"{peer.name} did not start")


def _report(
    raw: float,
    rates: dict[tuple[str, int], list[float]],
    tails: dict[tuple[str, int], list[float]],
    options: argparse.Namespace,
) -> str:
    median = {key: statistics.median(values) for key, values in rates.items()}
    names = [peer.name for peer in PEERS]
    lines = [
        f"{cpu_model()}, {usable_cpus()} CPUs; load average {os.getloadavg()[2]:.1f} over 15 min; "
        f"{options.photo.name}; medians of {options.rounds} rounds of {options.duration:g} s.",
        "",
        f"Raw loop without HTTP: {raw:.1f} images/s.",
        "",
        "| connections | " + " | ".join(names) + " | ÷ raw loop | ÷ best peer | p99 ÷ p50 |",
        "|---|" + "---|" * (len(names) + 3),
    ]
    for level in LEVELS:
        ours = median["classifyd", level]
        best = max(median[name, level] for name in names[1:])
        cells = [f"{median[name, level]:.1f}" for name in names]
        tail = statistics.median(tails["classifyd", level])
        cells += [f"{ours / raw:.2f}", f"{ours / best:.2f}", f"{tail:.1f}"]
        lines.append(f"| {level} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _say(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
