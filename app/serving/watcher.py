"""Watches the weights folder, so that an activation takes effect without a restart."""

import logging
import threading
import time

from app.errors import PackageError
from app.serving.registry import ModelRegistry
from app.serving.status_file import StatusFile
from app.system.priority import COMPUTE_NICENESS, lower_priority

POLL_S = 1.0
"""Interval at which the weights folder is checked: a few stat calls for each deploy name."""

_log = logging.getLogger(__name__)


class WeightsWatcher:
    """A daemon thread that keeps the served versions up to date; models are loaded in it."""

    def __init__(self, models: ModelRegistry, status: StatusFile) -> None:
        self._models = models
        self._status = status
        self._logged = ""

    def start(self) -> None:
        """Write the status file and start the thread."""
        self._status.write(self._models.status())
        threading.Thread(target=self._watch, name="weights-watcher", daemon=True).start()

    def _watch(self) -> None:
        lower_priority(COMPUTE_NICENESS)
        while True:
            time.sleep(POLL_S)
            try:
                if self._models.refresh():
                    self._status.write(self._models.status())
                self._logged = ""
            except PackageError as exc:
                # Once, not every POLL_S while the problem lasts.
                if str(exc) != self._logged:
                    _log.error("the served models stay in place: %s", exc)
                self._logged = str(exc)
            except Exception:
                # The thread must live as long as the worker, whatever the disk does.
                _log.exception("the weights folder could not be checked")
