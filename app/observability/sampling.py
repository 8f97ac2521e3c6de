"""Numbers that have a value at each moment, refreshed in each worker while it runs.

A scrape reaches one worker and must tell of all: each shows its own numbers every second,
which is more often than anybody scrapes and costs a request nothing.
"""

import logging
import threading
from collections.abc import Callable

INTERVAL_S = 1.0

_log = logging.getLogger(__name__)


def start_sampling(sample: Callable[[], None]) -> None:
    """Call a function now and then every INTERVAL_S, in a thread that ends with the process."""
    sample()
    threading.Thread(target=_repeat, args=(sample,), name="metrics", daemon=True).start()


def _repeat(sample: Callable[[], None]) -> None:
    pause = threading.Event()
    while not pause.wait(INTERVAL_S):
        try:
            sample()
        except Exception:
            _log.exception("the metrics of this worker could not be refreshed")
