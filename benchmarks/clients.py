"""Clients that watch a server: good callers, and health checks beside them."""

import json
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.server import Server, ask, connect
from benchmarks.support import NO_ANSWER, ClosedLoop, LoadResult, run_load

GOOD_CALLERS = 8
RETRY_PAUSE_S = 0.05

CHECK_INTERVAL_S = 1.0
CHECK_TIMEOUT_S = 5.0
"""A health check without an answer counts as this long."""

CHECK_IN_TIME_S = 1.0


@contextmanager
def in_background(work: Callable[..., None], *arguments: object) -> Iterator[list[Any]]:
    """Run ``work(pipe, *arguments)`` in a process of its own for the length of a block.

    It sends one message when it is ready, and after it has received one a list of findings.

    Yields:
        The list that holds the findings after the block.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    ours.recv()
    findings: list[Any] = []
    try:
        yield findings
    finally:
        ours.send("stop")
        findings += ours.recv()
        process.join()


def good_callers(server: Server, body: bytes, duration_s: float) -> LoadResult:
    """Have eight callers send one request after the other, over TLS where the server has it.

    Connections are new, so that callers also notice when none is accepted.
    """
    if not server.cafile:
        return run_load(server.target(body), ClosedLoop(GOOD_CALLERS), duration_s)
    result, started = LoadResult(), time.perf_counter()
    arguments = (server, body, started + duration_s, result)
    threads = [threading.Thread(target=_call, args=arguments) for _ in range(GOOD_CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.duration_s = time.perf_counter() - started
    return result


def _call(server: Server, body: bytes, end: float, result: LoadResult) -> None:
    """One caller over TLS: the load generator of the project knows plain HTTP alone."""
    while (left_s := end - time.perf_counter()) > 0:
        connection = server.connect(left_s)
        with suppress(OSError, HTTPException):
            while (started := time.perf_counter()) < end:
                connection.request("POST", server.path, body)
                answer = connection.getresponse().read()
                is_error = b'"error_code"' in answer
                code = json.loads(answer)["error_code"] if is_error else 0
                result.add(code, (time.perf_counter() - started) * 1000)
                result.results_in_time += not is_error
        connection.close()
        if time.perf_counter() < end:
            result.add(NO_ANSWER, 0.0)
            time.sleep(RETRY_PAUSE_S)


@dataclass(frozen=True)
class Check:
    """A health check: when it was sent (time.perf_counter()), and how long its answer took."""

    started: float
    took_s: float


@dataclass(frozen=True)
class HealthSummary:
    """Health checks of a span of time.

    Attributes:
        in_time: how many were answered within CHECK_IN_TIME_S.
        total: how many were sent.
        slowest_s: CHECK_TIMEOUT_S where one had no answer.
    """

    in_time: int
    total: int
    slowest_s: float

    def cells(self) -> tuple[str, str]:
        """Two cells of a table: how many were in time, and the slowest."""
        return f"{self.in_time} of {self.total}", f"{self.slowest_s:.3f} s"


def summarize(checks: Iterable[Check], begin: float, end: float) -> HealthSummary:
    """Summarize the checks that were sent between two times of time.perf_counter()."""
    times = [check.took_s for check in checks if begin <= check.started < end]
    in_time = sum(took_s <= CHECK_IN_TIME_S for took_s in times)
    return HealthSummary(in_time, len(times), max(times, default=0.0))


@contextmanager
def health_checks(server: Server) -> Iterator[list[Check]]:
    """Send GET /healthz once a second for the length of a block.

    Yields:
        The list that holds the checks after the block.
    """
    with in_background(_check_health, server.port, server.cafile) as checks:
        yield checks


def _check_health(pipe: Connection, port: int, cafile: str) -> None:
    """Give each check a thread, so that none waits for another."""
    checks: list[Check] = []
    threads = []

    def check() -> None:
        started, status = time.perf_counter(), 0
        with suppress(OSError, HTTPException):
            status, _ = ask(connect(port, cafile, CHECK_TIMEOUT_S), "GET", "/healthz")
        took_s = time.perf_counter() - started if status == 200 else CHECK_TIMEOUT_S
        checks.append(Check(started, took_s))

    pipe.send("ready")
    while not pipe.poll(CHECK_INTERVAL_S):
        threads.append(threading.Thread(target=check))
        threads[-1].start()
    for thread in threads:
        thread.join()
    pipe.send(sorted(checks, key=lambda one: one.started))
