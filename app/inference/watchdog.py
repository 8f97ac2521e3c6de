"""Detection of an inference that never ends.

gunicorn's heartbeat comes from the event loop and goes on while an inference hangs, so the
worker would look alive and answer nothing.
"""

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable

from app.errors import ModelUnavailable
from app.inference.queue import HUNG_DETAIL, InferenceQueue

EXIT_STATUS = 70
"""EX_SOFTWARE of sysexits.h; gunicorn replaces a worker that ends with it."""

EXIT_DELAY_S = 1.0
"""Time for the answers to the waiting requests to leave the process."""

_log = logging.getLogger(__name__)


def end_process() -> None:
    """End the worker at once: a hung thread can be neither stopped nor waited for."""
    os._exit(EXIT_STATUS)


class Watchdog:
    """Replaces the worker when an inference hangs.

    Args:
        queue: whose inferences are watched.
        timeout_s: how long one may take.
        end: ends the process.

    Attributes:
        on_hang: called when an inference hangs, before the process ends; it answers the
            requests whose threads cannot.
    """

    def __init__(
        self, queue: InferenceQueue, timeout_s: float, end: Callable[[], None] = end_process
    ) -> None:
        self._queue = queue
        self._timeout_s = timeout_s
        self._end = end
        self.on_hang: Callable[[ModelUnavailable], object] = lambda _error: None
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch, until the process ends."""
        self._thread.start()

    def _watch(self) -> None:
        while self._queue.longest_run_s() < self._timeout_s:
            time.sleep(min(1.0, self._timeout_s / 4))
        _log.critical(
            "an inference has run for %.0f s, more than hang_timeout_s = %.0f; "
            "the worker is replaced. Stacks:\n%s",
            self._queue.longest_run_s(),
            self._timeout_s,
            describe_stacks(),
        )
        self._queue.abandon()
        # What waited in the queue is answered by its own thread meanwhile.
        time.sleep(EXIT_DELAY_S / 2)
        self.on_hang(ModelUnavailable(HUNG_DETAIL))
        time.sleep(EXIT_DELAY_S / 2)
        self._end()


def describe_stacks() -> str:
    """Write the stack of every thread, as a traceback does: code, never values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )
