"""Sending load: one runner, and two rules that decide when a request is due."""

import math
import multiprocessing
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from typing import Any

from app.bench.connections import Connections, Target
from app.bench.result import NO_ANSWER, LoadResult, merge
from app.errors import OperatorError
from app.system.cpus import raise_file_limit

MAX_OPEN_CONNECTIONS = 4096
"""Of an open loop, over all processes. When all are in use the next request waits, and its
latency includes the wait."""

DRAIN_S = 15
"""How long an open loop waits for its last answers: longer than the server's deadline_ms.
Without it the slowest answers would be missing from the percentiles."""

RATE_PER_PROCESS = 1500
"""Requests per second that one process sends while others compete for its core: at 1,400, 99 %
were sent less than 3.5 ms late. Four processes were 2 ms late, but took so much of the machine
that its server answered 3 % less."""

_BURST = 16
"""Requests that are sent before answers are read again."""

Progress = Callable[[int, float], None]
"""Receives the number of results and the elapsed seconds, about once per second."""


@dataclass(frozen=True, kw_only=True)
class Pacing(ABC):
    """Decides when a request is sent, and how long to wait for the last answers.

    Of the requests, this process sends every ``step``-th from index ``first`` on.
    """

    first: int = 0
    step: int = 1
    drain_s: float = 0.0

    def split(self) -> Sequence["Pacing"]:
        """One part for each process that sends."""
        return [self]

    @abstractmethod
    def send_due(self, connections: Connections, started: float, result: LoadResult) -> float:
        """Send what is due now, and return the time.perf_counter() of the next call."""


@dataclass(frozen=True)
class ClosedLoop(Pacing):
    """A fixed number of requests in flight: the next one is sent when an answer arrives."""

    connections: int

    def send_due(self, connections: Connections, started: float, result: LoadResult) -> float:
        """See Pacing."""
        while connections.in_flight() < self.connections:
            connections.send(time.perf_counter())
            if NO_ANSWER in result.latencies_ms and not connections.in_flight():
                return time.perf_counter() + 0.01  # nothing listens at the moment
        return math.inf


@dataclass(frozen=True)
class OpenLoop(Pacing):
    """A fixed rate of requests per second, whatever the answers: many independent clients.

    The rate is that of all processes together; 0 processes means as many as the rate needs.
    """

    rate: float
    processes: int = 0
    drain_s: float = field(default=DRAIN_S, kw_only=True)

    def split(self) -> Sequence["OpenLoop"]:
        """The processes take turns."""
        count = self.processes or math.ceil(self.rate / RATE_PER_PROCESS)
        return [replace(self, first=index, step=count) for index in range(count)]

    def send_due(self, connections: Connections, started: float, result: LoadResult) -> float:
        """See Pacing."""
        limit = MAX_OPEN_CONNECTIONS / self.step
        for _ in range(_BURST):
            due = started + (self.first + result.sent * self.step) / self.rate
            now = time.perf_counter()
            if due > now:
                return due
            if not connections.has_idle() and connections.in_flight() >= limit:
                result.held_back = True
                return math.inf  # an answer must come first
            result.late_ms.append((now - due) * 1000)
            connections.send(due)
        return 0.0


def run_load(
    target: Target,
    pacing: Pacing,
    duration_s: float,
    progress: Progress = lambda _results, _elapsed_s: None,
) -> LoadResult:
    """Send load to a server.

    Raises:
        OSError: the host name cannot be resolved.
        OperatorError: a process of the load generator ended early.
    """
    parts = pacing.split()
    if len(parts) == 1:
        return _run(target, parts[0], duration_s, progress)
    return merge(_run_in_processes(target, parts, duration_s, progress))


def _run(target: Target, pacing: Pacing, duration_s: float, progress: Progress) -> LoadResult:
    result = LoadResult()
    connections = Connections(target, result, pacing.first, pacing.step)
    raise_file_limit(2 * MAX_OPEN_CONNECTIONS)
    started = reported = time.perf_counter()
    cpu_s, end = time.process_time(), started + duration_s
    while (now := time.perf_counter()) < end:
        wake = min(pacing.send_due(connections, started, result), end, now + 0.25)
        connections.poll(wake - time.perf_counter())
        if now - reported >= 1:
            reported = now
            connections.fail_stalled()
            progress(result.results_in_time, now - started)
    result.duration_s = time.perf_counter() - started
    result.busy = (time.process_time() - cpu_s) / result.duration_s
    _drain(connections, pacing.drain_s)
    connections.close()
    return result


def _drain(connections: Connections, drain_s: float) -> None:
    """Wait for the answers to what was sent; those still missing then count as failed."""
    connections.counts_in_time = False
    end = time.perf_counter() + drain_s
    while connections.in_flight() and (left := end - time.perf_counter()) > 0:
        connections.poll(min(0.25, left))
    if drain_s:
        connections.fail_stalled(0)


def _run_in_processes(
    target: Target, parts: Sequence[Pacing], duration_s: float, progress: Progress
) -> list[LoadResult]:
    """Run each part in a process of its own; all start together."""
    context = multiprocessing.get_context("spawn")
    shared = (context.Barrier(len(parts)), context.Array("L", len(parts)), context.Value("d"))
    with ProcessPoolExecutor(len(parts), context, _share, shared) as pool:
        futures: list[Future[LoadResult]] = [
            pool.submit(_run_part, index, target, part, duration_s)
            for index, part in enumerate(parts)
        ]
        _, counts, elapsed_s = shared
        while wait(futures, 1).not_done:
            if elapsed_s.value:
                progress(sum(counts[:]), elapsed_s.value)
        try:
            return [future.result() for future in futures]
        except BrokenProcessPool as exc:
            raise OperatorError("a process of the load generator ended early") from exc


_shared: list[Any] = []
"""In a process of the load generator: the start barrier, the results of each part, the time."""


def _share(*values: object) -> None:
    _shared[:] = values


def _run_part(index: int, target: Target, part: Pacing, duration_s: float) -> LoadResult:
    barrier, counts, elapsed_s = _shared

    def report(results: int, seconds: float) -> None:
        counts[index], elapsed_s.value = results, seconds

    barrier.wait()
    return _run(target, part, duration_s, report)
