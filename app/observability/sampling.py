"""Periodic updates of the gauges of a worker.

A scrape reaches one worker and returns the values of all. So each worker updates its gauges
every second, more often than Prometheus scrapes, and not while it handles a request.
"""

import logging
import threading
import time
from collections.abc import Callable

INTERVAL_S = 1.0

_log = logging.getLogger(__name__)


def start_sampling(sample: Callable[[], None]) -> None:
    """Call a function now, and then every INTERVAL_S in a daemon thread."""
    sample()
    threading.Thread(target=_repeat, args=(sample,), name="metrics", daemon=True).start()


def _repeat(sample: Callable[[], None]) -> None:
    while True:
        time.sleep(INTERVAL_S)
        try:
            sample()
        except Exception:
            _log.exception("the metrics of this worker could not be updated")
