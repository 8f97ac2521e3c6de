"""Two kinds of load: so many requests in flight, or so many in a second.

An open loop is spread over processes where its rate is more than one can send.
"""

import math
import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Protocol

from app.bench.connections import Connections, Target
from app.bench.result import NO_ANSWER, LoadResult, merge
from app.errors import OperatorError

__all__ = ["LoadResult", "Target", "closed_loop", "open_loop"]

MAX_OPEN_CONNECTIONS = 4096
"""Of an open loop, all processes together; when all are busy the next request waits, and its
time runs."""

DRAIN_S = 15
"""How long an open loop waits for its last answers: longer than the server's deadline_ms.
Without it the slowest would be missing from the percentiles."""

RATE_OF_A_PROCESS = 1500
"""Requests in a second that one process sends while others want its core, too: of 1,400, 99 %
went out less than 3.5 ms late. Four processes were 2 ms late, and took so much more of the machine
that its server answered 3 % less."""

_BURST = 16
"""Requests that are sent before answers are looked at again."""

_START_DELAY_S = 0.2
"""From when all processes are ready to their first request."""

Progress = Callable[[int, float], None]
"""Is told the results so far and the seconds gone, about once a second."""


def closed_loop(
    target: Target,
    connections: int,
    duration_s: float,
    progress: Progress = lambda _results, _elapsed_s: None,
) -> LoadResult:
    """Keep so many requests in flight: the next is sent when an answer has come.

    Args:
        target: the server and the requests.
        connections: how many.
        duration_s: for how long.
        progress: is told about once a second.

    Raises:
        OSError: the target's name cannot be resolved.
    """
    return _drive(target, _Closed(connections), time.perf_counter(), duration_s, progress)


def open_loop(
    target: Target,
    rate: float,
    duration_s: float,
    progress: Progress = lambda _results, _elapsed_s: None,
    processes: int = 0,
) -> LoadResult:
    """Send at a given rate, whether answers come or not, as many independent clients do.

    Args:
        target: the server and the requests.
        rate: requests in a second.
        duration_s: for how long.
        progress: is told about once a second.
        processes: how many send; 0 is as many as the rate needs.

    Raises:
        OSError: the target's name cannot be resolved.
        OperatorError: one of the processes ended before its time.
    """
    processes = processes or math.ceil(rate / RATE_OF_A_PROCESS)
    shares = [_Open(rate, index, processes) for index in range(processes)]
    if processes == 1:
        return _drive(target, shares[0], time.perf_counter(), duration_s, progress)
    return merge(_drive_apart(target, shares, duration_s, progress))


class _Feed(Protocol):
    """What decides when a request is sent."""

    first: int
    of: int
    drain_s: float

    def send_due(self, connections: Connections, started: float, result: LoadResult) -> float:
        """Send what is due now, and say at which time.perf_counter() to be asked again."""
        ...


@dataclass
class _Closed:
    """So many requests in flight."""

    connections: int
    first: int = 0
    of: int = 1
    drain_s: float = 0.0

    def send_due(self, connections: Connections, started: float, result: LoadResult) -> float:
        while connections.busy() < self.connections:
            connections.send(time.perf_counter())
            if NO_ANSWER in result.latencies_ms and not connections.busy():
                return time.perf_counter() + 0.01  # nobody listens at the moment
        return math.inf


@dataclass
class _Open:
    """One process's share of so many requests in a second: every ``of``-th, from ``first``."""

    rate: float
    first: int
    of: int
    drain_s: float = DRAIN_S

    def send_due(self, connections: Connections, started: float, result: LoadResult) -> float:
        for _ in range(_BURST):
            due = started + (self.first + result.sent * self.of) / self.rate
            now = time.perf_counter()
            if due > now:
                return due
            if not connections.has_idle() and connections.busy() * self.of >= MAX_OPEN_CONNECTIONS:
                result.held_back = True
                return math.inf  # an answer must come first
            result.late_ms.append((now - due) * 1000)
            connections.send(due)
        return 0.0


def _drive(
    target: Target, feed: _Feed, started: float, duration_s: float, progress: Progress
) -> LoadResult:
    result = LoadResult()
    connections = Connections(target, result, feed.first, feed.of)
    _allow_many_files()
    time.sleep(max(0.0, started - time.perf_counter()))
    cpu_s, end, told = time.process_time(), started + duration_s, started
    while (now := time.perf_counter()) < end:
        wake = min(feed.send_due(connections, started, result), end, now + 0.25)
        connections.turn(wake - time.perf_counter())
        if now - told >= 1:
            told = now
            connections.fail_silent()
            progress(result.results_in_time, now - started)
    result.duration_s = time.perf_counter() - started
    result.busy = (time.process_time() - cpu_s) / result.duration_s
    _drain(connections, feed.drain_s)
    connections.close()
    return result


def _drain(connections: Connections, drain_s: float) -> None:
    """Wait for the answers to what was sent; what is still missing then has failed."""
    connections.counts_in_time = False
    end = time.perf_counter() + drain_s
    while connections.busy() and (left := end - time.perf_counter()) > 0:
        connections.turn(min(0.25, left))
    if drain_s:
        connections.fail_silent(0)


def _drive_apart(
    target: Target, shares: list[_Open], duration_s: float, progress: Progress
) -> list[LoadResult]:
    """Drive each share in a process of its own, all from the same moment on."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    for share in shares:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve_share, args=(theirs, target, share), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    # time.perf_counter() is the machine's monotonic clock, the same for every process.
    started = time.perf_counter() + _START_DELAY_S
    for pipe in pipes:
        pipe.send((started, duration_s))
    results = _collect(pipes, started, progress)
    for process in processes:
        process.join()
    return results


def _collect(pipes: list[Connection], started: float, progress: Progress) -> list[LoadResult]:
    counts = dict.fromkeys(pipes, 0)
    results: dict[Connection, LoadResult] = {}
    told = started
    while len(results) < len(pipes):
        for pipe in wait([pipe for pipe in pipes if pipe not in results]):
            assert isinstance(pipe, Connection)  # noqa: S101 - nothing else was waited for
            try:
                message: int | LoadResult = pipe.recv()
            except EOFError as exc:
                raise OperatorError("a process of the load generator ended early") from exc
            if isinstance(message, LoadResult):
                results[pipe] = message
            else:
                counts[pipe] = message
        now = time.perf_counter()
        if now - told >= 1 and not results:
            told = now
            progress(sum(counts.values()), now - started)
    return [results[pipe] for pipe in pipes]


def _serve_share(pipe: Connection, target: Target, share: _Open) -> None:
    """What a process of its own does; see _drive_apart."""
    pipe.send("ready")
    started, duration_s = pipe.recv()
    pipe.send(_drive(target, share, started, duration_s, lambda results, _: pipe.send(results)))


def _allow_many_files() -> None:
    """Each connection is an open file, of which shells allow 1024 at first."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
