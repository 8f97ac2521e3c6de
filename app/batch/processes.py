"""Runs a job on all cores of this machine: worker processes that are given shards."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import Synchronized

from app.batch.job import Job, Shard, ShardRows
from app.errors import OperatorError
from app.system.sizing import worker_count

POLL_S = 0.5


class _Worker:
    """A worker process, seen from the main process."""

    def __init__(self, job: Job, slot: int, count: "Synchronized[int]") -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_serve, args=(job, slot, other, count), daemon=True
        )
        with _without_interrupt():
            self._process.start()
        other.close()

    def receive(self) -> ShardRows | int:
        """Return the rows of a shard; first the number of threads, once the model is loaded.

        Raises:
            OperatorError: the process failed or has ended.
        """
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError) as exc:
            self._process.join()
            raise OperatorError(
                f"a worker process ended (exit status {self._process.exitcode}; -9 is often too "
                "little memory); the same command goes on with what is missing"
            ) from exc
        if isinstance(message, OperatorError):
            raise message
        received: ShardRows | int = message
        return received

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def run_processes(
    job: Job, shards: Sequence[Shard], report: Callable[[int], object]
) -> Iterator[ShardRows]:
    """Classify shards, and return them as they are complete.

    Args:
        job: what to do.
        shards: which photos.
        report: called when the first model is loaded, and then several times a second, with the
            number of photos that are classified.

    Raises:
        OperatorError: a worker process failed or has ended.
    """
    waiting = deque(shards)
    missing = len(waiting)
    count = multiprocessing.get_context("spawn").Value("Q", 0)
    number = min(worker_count(job.settings), missing)
    workers: list[_Worker] = []
    try:
        workers += [_Worker(job, slot, count) for slot in range(number)]
        by_connection = {worker.connection: worker for worker in workers}
        is_loaded = False
        while missing:
            for connection in wait(list(by_connection), POLL_S):
                assert isinstance(connection, Connection)  # noqa: S101 - for mypy
                received = by_connection[connection].receive()
                is_loaded = True
                # One shard more than threads: none waits for the next.
                for _ in range(received + 1 if isinstance(received, int) else 1):
                    if waiting:
                        connection.send(waiting.popleft())
                if isinstance(received, ShardRows):
                    missing -= 1
                    yield received
            if is_loaded:
                report(count.value)
    finally:
        for worker in workers:
            worker.kill()


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Let processes that are started in the block ignore Ctrl-C, which reaches all of them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(job: Job, slot: int, connection: Connection, count: "Synchronized[int]") -> None:
    """Run a worker process."""
    _end_with_parent()
    # Imported here: the main process needs no torch.
    from app.batch.shards import ShardClassifier

    def note_row() -> None:
        with count.get_lock():
            count.value += 1

    sending = threading.Lock()

    def send(message: object) -> None:
        with sending:
            connection.send(message)

    try:
        classifier = ShardClassifier(job, slot, note_row)
    except OperatorError as exc:
        send(OperatorError(str(exc)))
        return
    receive = partial(_receive, connection, threading.Lock())
    arguments = (receive, classifier.classify, send)
    threads = [
        threading.Thread(target=_classify_shards, args=arguments) for _ in range(classifier.threads)
    ]
    for thread in threads:
        thread.start()
    send(classifier.threads)
    for thread in threads:
        thread.join()


def _receive(connection: Connection, lock: threading.Lock) -> Shard:
    with lock:
        shard: Shard = connection.recv()
    return shard


def _classify_shards(
    receive: Callable[[], Shard],
    classify: Callable[[Shard], ShardRows],
    send: Callable[[object], None],
) -> None:
    while True:
        shard = receive()
        try:
            send(classify(shard))
        except OperatorError as exc:
            # A copy: its traceback and its cause cannot be pickled.
            send(OperatorError(str(exc)))


def _end_with_parent() -> None:
    """End this process as soon as the main process has ended, however that happened."""
    parent = multiprocessing.parent_process()
    assert parent  # noqa: S101 - a spawned process has one

    def run() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=run, daemon=True).start()
