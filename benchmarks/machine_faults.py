"""What a machine does to a server: a full disk, a wrong clock, a stopped process, no more files.

Each function runs one such fault on a server of its own and returns its figures.
"""

import json
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.system.files import atomic_write
from benchmarks.attackers import ATTACKS, Attack, Counts, attackers
from benchmarks.clients import good_callers, health_checks, summarize
from benchmarks.figures import Figure, figures_of, health_figure
from benchmarks.server import Server
from benchmarks.slow_clients import measure
from benchmarks.support import NO_ANSWER, PATH, PROJECT_ROOT, photo_body
from benchmarks.versions import recovery_s
from tests.support.licences import build_sealed_package, customer_fingerprint, write_licence

DISK_MB = 64
ASKED = 50
RECOVERY_S = 10.0

LICENCE_DAYS = 30
DAY_S = 86_400
CLOCK_STEPS = ((240, 0), (0, 0), (40 * DAY_S, 337000), (0, 0), (-DAY_S, 337000), (0, 0))
"""Offsets of the clock in seconds, and the answers with a licence of LICENCE_DAYS: a correction of
some minutes changes nothing, an end and a clock that was set back do, until it is right again."""

START_TIMEOUT_S = 15
PAUSE_S = 8
FEW_FILES = 1024
SPARE_FILES = 24


class Skipped(Exception):
    """The machine cannot do what the attack needs; the text says what is missing."""


@dataclass(frozen=True)
class Bench:
    """What an attack starts with.

    Attributes:
        folder: for its files; ``state`` in it has the tuned engines.
        seconds: of each load.
        settings: names and values.
    """

    folder: Path
    seconds: float
    settings: tuple[tuple[str, str], ...] = ()

    def server(self, *settings: tuple[str, object], **options: object) -> Server:
        """A server with more settings, and other options of ``Server``."""
        values = (*self.settings, *((name, str(value)) for name, value in settings))
        arguments = {"state_dir": self.folder / "state"} | options
        return Server(settings=values, **arguments)  # type: ignore[arg-type]  # by name


def full_state_disk(bench: Bench) -> list[Figure]:
    """State folder and log file on a disk that fills up: the lines go to standard error."""
    asked: list[int] = []
    with _small_disk() as disk:
        log_file, stderr = disk / "classifyd.log", bench.folder / "disk-stderr.log"
        server = _server_on(bench, disk, ("log_file", log_file), log=stderr)
        with server.running():
            outcome = measure(
                server, _filled(disk, lambda: asked.extend(_ask(server))), bench.seconds
            )
            took_s = _killed_on(disk, server)
            asked += _ask(server)
            texts = [log_file.read_text(errors="replace"), server.log_text()]
    logged = set().union(*map(_logged_ids, texts))
    return [
        *figures_of(outcome),
        Figure("kill -9 on a full disk to the next result, s", took_s, RECOVERY_S),
        Figure("answered calls that no log has", len(set(asked) - logged), 0),
        Figure("log lines damaged by a cut one", sum(map(_joined_lines, texts)), 0),
    ]


def full_log_disk(bench: Bench) -> list[Figure]:
    """State folder and standard error, with the log, on a disk that fills up."""
    with _small_disk() as disk:
        server = _server_on(bench, disk, log=disk / "server.log")
        with server.running():
            outcome = measure(server, _filled(disk, lambda: _ask(server)), bench.seconds)
            took_s = _killed_on(disk, server)
            asked = _ask(server)
            text = server.log_text()
    return [
        *figures_of(outcome),
        Figure("kill -9 on a full disk to the next result, s", took_s, RECOVERY_S),
        Figure("calls after it that the log lacks", len(set(asked) - _logged_ids(text)), 0),
        Figure("log lines damaged by a cut one", _joined_lines(text), 0),
    ]


def clock_steps(bench: Bench) -> list[Figure]:
    """A clock that is set forward and back under load, with a licence that ends."""
    if shutil.which("cc") is None:
        raise Skipped("needs a C compiler (cc)")
    library = bench.folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    clock, licences = bench.folder / "clock", bench.folder / "licences"
    weights, state = bench.folder / "weights", bench.folder / "state"
    weights.mkdir()
    (weights / "imagenet").symlink_to(PROJECT_ROOT / "weights/imagenet")
    publisher = Ed25519PrivateKey.generate()
    build_sealed_package(weights, "sealed", publisher)
    fingerprint = customer_fingerprint(state)
    write_licence(licences / "sealed.licence", publisher, fingerprint, "sealed", days=LICENCE_DAYS)
    prefix = ("env", f"LD_PRELOAD={library}", f"CLOCK_OFFSET_FILE={clock}")
    clock.write_text("0")
    folders = (("weights_dir", weights), ("licence_dir", licences))
    server, wrong = bench.server(*folders, prefix=prefix), list[int]()
    with server.running():
        outcome = measure(server, _stepping(server, clock, wrong), bench.seconds)
        log_ids = [line.get("log_id") for line in _lines(server.log_text()) if _is_call(line)]
    return [
        *figures_of(outcome),
        Figure("wrong answers with a licence", len(wrong), 0),
        Figure("log_ids given twice", len(log_ids) - len(set(log_ids)), 0),
    ]


def stopped_worker(bench: Bench) -> list[Figure]:
    """One of two workers is stopped (SIGSTOP), until the master replaces it."""
    server = bench.server(("workers", 2), ("start_timeout_s", START_TIMEOUT_S))
    replaced_s: list[float] = []
    with server.running():
        outcome = measure(server, _stopped(server, replaced_s), bench.seconds)
    return [
        *figures_of(outcome, min_share=0.4, replaced=1),
        Figure("SIGSTOP to the replacement, s", replaced_s[0], START_TIMEOUT_S + RECOVERY_S),
    ]


def paused_server(bench: Bench) -> list[Figure]:
    """All processes are stopped for some seconds under load, as by a snapshot of the machine."""
    server = bench.server()
    with server.running():
        pids = server.worker_pids()
        loads = []
        body, total_s = photo_body(), PAUSE_S + 2 * bench.seconds
        caller = threading.Thread(target=lambda: loads.append(good_callers(server, body, total_s)))
        caller.start()
        time.sleep(bench.seconds)
        tree = [server.master(), *server.workers()]
        for process in tree:
            process.suspend()
        time.sleep(PAUSE_S)
        for process in tree:
            process.resume()
        begin = time.perf_counter()
        with health_checks(server) as checks:
            caller.join()
        end = time.perf_counter()
        unanswered = len(loads[0].latencies_ms.get(NO_ANSWER, ()))
        tracebacks = server.log_text().count("Traceback")
        replaced = len(pids - server.worker_pids())
    return [
        health_figure(summarize(checks, begin, end)),
        Figure("good calls without an answer", unanswered, 0),
        Figure("tracebacks in the log", tracebacks, 0),
        Figure("workers replaced", replaced, 0),
    ]


def few_files(key: str, bench: Bench) -> list[Figure]:
    """More slow clients than a low limit of open files allows."""
    prefix = ("sh", "-c", f'ulimit -n {FEW_FILES} && exec "$@"', "sh")
    server = bench.server(prefix=prefix)
    attack = replace(next(a for a in ATTACKS if a.key == key), clients=FEW_FILES + 100)
    with server.running():
        return figures_of(measure(server, attackers(attack, server), bench.seconds))


def no_more_files(bench: Bench) -> list[Figure]:
    """A worker whose open files are used up by idle connections and by others."""
    server = bench.server()
    with server.running():
        return figures_of(measure(server, _without_files(server), bench.seconds))


def _server_on(bench: Bench, disk: Path, *settings: tuple[str, object], log: Path) -> Server:
    shutil.copytree(bench.folder / "state" / "engines", disk / "state" / "engines")
    return bench.server(*settings, state_dir=disk / "state", log=log)


@contextmanager
def _small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder]
        if subprocess.run(command, capture_output=True).returncode:
            raise Skipped("needs to mount a small disk (root)")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def _filled(disk: Path, ask: Callable[[], object]) -> Iterator[list[Counts]]:
    """Leave no byte on a disk for the length of a block, and call ``ask`` at its end."""
    fill = disk / "fill"
    with suppress(OSError), fill.open("wb", buffering=0) as stream:
        while stream.write(bytes(65536)) == 65536:
            pass
    try:
        yield []
        ask()
    finally:
        fill.unlink()


def _killed_on(disk: Path, server: Server) -> float:
    """Kill the workers while the disk is full; seconds until the next result."""
    with _filled(disk, lambda: None):
        return recovery_s(server, photo_body())


def _ask(server: Server) -> list[int]:
    """Send some good requests; the log_ids of their answers."""
    body = photo_body()
    answers = [server.ask("POST", server.path, body)[1] for _ in range(ASKED)]
    time.sleep(1)  # lines are written behind the answers
    return [json.loads(answer)["log_id"] for answer in answers]


def _lines(text: str) -> list[dict[str, object]]:
    lines = []
    for line in text.splitlines():
        with suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def _is_call(line: dict[str, object]) -> bool:
    return line.get("message") == "request" and line.get("path") == PATH


def _logged_ids(text: str) -> set[object]:
    return {line.get("log_id") for line in _lines(text) if _is_call(line)}


def _joined_lines(text: str) -> int:
    """How many lines begin behind a part of another."""
    return sum(line.count('{"time":') > 1 for line in text.splitlines())


@contextmanager
def _stepping(server: Server, clock: Path, wrong: list[int]) -> Iterator[list[Counts]]:
    """Step the clock for the length of a block; list the steps whose answer was wrong."""
    has_ended = threading.Event()

    def step() -> None:
        while not has_ended.is_set():
            for offset, code in CLOCK_STEPS:
                with atomic_write(clock, durable=False) as stream:
                    stream.write(str(offset).encode())
                if not _awaits(server, code):
                    wrong.append(offset)

    stepping = threading.Thread(target=step)
    stepping.start()
    try:
        yield []
    finally:
        has_ended.set()
        stepping.join()


def _awaits(server: Server, code: int) -> bool:
    """Whether a licensed call is answered with a code within RECOVERY_S, and again after 3 s."""
    body, end = photo_body(), time.monotonic() + RECOVERY_S
    while (found := _licensed_code(server, body)) != code and time.monotonic() < end:
        time.sleep(0.2)
    time.sleep(3)
    return found == code == _licensed_code(server, body)


def _licensed_code(server: Server, body: bytes) -> int:
    _, answer = server.ask("POST", PATH.replace("imagenet", "sealed"), body)
    return int(json.loads(answer).get("error_code", 0))


@contextmanager
def _stopped(server: Server, replaced_s: list[float]) -> Iterator[list[Counts]]:
    """Stop a worker; at the end of the block wait until it has been replaced."""
    worker, started = server.workers()[0], time.perf_counter()
    worker.suspend()
    yield []
    end = started + 2 * START_TIMEOUT_S + RECOVERY_S
    while time.perf_counter() < end and (psutil.pid_exists(worker.pid) or not _is_ready(server)):
        time.sleep(0.1)
    replaced_s.append(time.perf_counter() - started)
    with suppress(psutil.NoSuchProcess):
        worker.send_signal(signal.SIGKILL)


def _is_ready(server: Server) -> bool:
    """Whether every worker has loaded its models."""
    files = (server.state_dir / "workers").glob("*.json")
    ready = {status["pid"] for status in map(_read_json, files) if status.get("names")}
    return server.worker_pids() <= ready and len(server.worker_pids()) == 2


def _read_json(path: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        document: dict[str, object] = json.loads(path.read_bytes())
        return document
    return {}


@contextmanager
def _without_files(server: Server) -> Iterator[list[Counts]]:
    """Lower the limit of a worker's open files to a few more than it has, and use them up."""
    (worker,) = server.workers()
    before = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    few = worker.num_fds() + SPARE_FILES
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (few, before[1]))
    try:
        with attackers(Attack("idle", "idle connections", 4 * SPARE_FILES), server) as counts:
            yield counts
    finally:
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, before)


FAULTS: dict[str, tuple[str, Callable[[Bench], list[Figure]]]] = {
    "disk": ("state folder and log file on a full disk", full_state_disk),
    "disk-stderr": ("state folder and standard error on a full disk", full_log_disk),
    "clock": ("clock steps, with a licence", clock_steps),
    "stopped": ("SIGSTOP of one of two workers", stopped_worker),
    "paused": (f"SIGSTOP of everything for {PAUSE_S} s", paused_server),
    **{
        f"files-{key}": (
            f"{FEW_FILES + 100} clients, {FEW_FILES} open files: {key}",
            partial(few_files, key),
        )
        for key in ("idle", "heads", "right-path")
    },
    "no-files": ("no open files left for connections", no_more_files),
}
