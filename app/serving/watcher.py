"""A worker's eye on the weights folder: activations take effect without a restart."""

import logging
import threading

from app.errors import PackageError
from app.serving.registry import ModelRegistry
from app.serving.status_file import StatusFile

POLL_S = 1.0
"""How often the weights folder is looked at: a few stat calls for each deploy name."""

_log = logging.getLogger(__name__)


class WeightsWatcher:
    """A thread that keeps the models in line with the weights folder.

    Loading is done here and in no request's way. The thread ends with the process.

    Args:
        models: what to keep in line.
        status: where to say what is served.
    """

    def __init__(self, models: ModelRegistry, status: StatusFile) -> None:
        self._models = models
        self._status = status
        self._complaint = ""

    def start(self) -> None:
        """Say what is served, and start to watch."""
        self._status.write(self._models.status())
        threading.Thread(target=self._watch, name="reload", daemon=True).start()

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(POLL_S):
            try:
                if self._models.refresh():
                    self._status.write(self._models.status())
                self.log_once("")
            except PackageError as exc:
                self.log_once(f"what is served stays as it is: {exc}")
            except Exception:
                # The thread must live as long as the worker, whatever the disk does.
                _log.exception("the weights folder could not be looked at")

    def log_once(self, text: str) -> None:
        """Log a trouble that lasts once, not every second."""
        if text and text != self._complaint:
            _log.error("%s", text)
        self._complaint = text
