"""Images that take long to decode, in threads that leave the processor to everything else."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

from app.errors import ModelUnavailable
from app.limits.core_gate import CoreGate
from app.limits.decode_memory import DecodeMemoryLimiter
from app.limits.fair_semaphore import LATE_DETAIL
from app.system.priority import COSTLY_NICENESS, lower_priority

_Result = TypeVar("_Result")


class CostlyImages:
    """Decodes costly images first come first served, in threads of a lower priority.

    The kernel gives these threads what others leave, and a small share where they leave nothing.
    So the others need not wait for them, and no core is idle because of them.

    Args:
        threads: Maximum number of images that are decoded at once.
        max_waiting: Maximum number of images here, waiting ones included.
        cores: given back by a thread that waits here.
        memory: for the decoded images, theirs alone.

    Attributes:
        step_aside: entered by a thread that waits here, so that another can take its place.
    """

    def __init__(
        self, threads: int, max_waiting: int, cores: CoreGate, memory: DecodeMemoryLimiter
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, "costly", lower_priority, (COSTLY_NICENESS,))
        self._max_waiting = max_waiting
        self._cores, self._memory = cores, memory
        self._lock = threading.Lock()
        self._waiting = 0
        self.step_aside: Callable[[], AbstractContextManager[object]] = nullcontext

    def run(
        self, width: int, height: int, deadline: float, decoder: Callable[[], _Result]
    ) -> _Result:
        """Run what decodes an image, while the calling thread waits and leaves its core.

        Args:
            width: in pixels.
            height: in pixels.
            deadline: time.monotonic() until which it may wait.
            decoder: what to run.

        Raises:
            ModelUnavailable: the deadline passed, or too many images wait.
        """
        work = partial(self._decode, width, height, deadline, decoder)
        with self._submit(work) as future, self._cores.step_out(), self.step_aside():
            return future.result()

    def waiting(self) -> int:
        """Count the images that are decoded or wait for that."""
        return self._waiting

    @contextmanager
    def _submit(self, work: Callable[[], _Result]) -> Iterator["Future[_Result]"]:
        """Queue work, in the order in which it is counted."""
        with self._lock:
            if self._waiting >= self._max_waiting:
                raise ModelUnavailable(f"{self._max_waiting} costly images are already in flight")
            self._waiting += 1
            future = self._pool.submit(work)
        try:
            yield future
        finally:
            with self._lock:
                self._waiting -= 1

    def _decode(
        self, width: int, height: int, deadline: float, decoder: Callable[[], _Result]
    ) -> _Result:
        if time.monotonic() > deadline:
            raise ModelUnavailable(LATE_DETAIL)
        with self._memory.reserve(width, height, deadline):
            return decoder()
