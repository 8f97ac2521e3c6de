"""How many epochs the fine-tuning has: decided once, and kept over an interruption."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from app.system.files import atomic_write
from app.training.finetune import EPOCHS
from app.training.progress import Progress
from app.training.request import TrainingRequest

RESERVED_S = 30
"""Of a time budget, for building the package and the report."""


class FineTuningPlan:
    """The number of epochs and the files of one fine-tuning.

    The number depends on the time of an epoch only if a budget is too small for all of them. It
    is stored before the first epoch, so that an interrupted training ends as it would have.

    Args:
        request: with its budget.
        work: the work folder.
        key: of everything else that the fine-tuning depends on.
        started: time.monotonic() of the start of the training.
    """

    def __init__(self, request: TrainingRequest, work: Path, key: str, started: float) -> None:
        self._request, self._started = request, started
        self._file = work / f"plan-{key}.json"
        self.state_file = work / f"finetune-{key}.pt"

    @property
    def is_wanted(self) -> bool:
        """Whether to fine-tune at all, as long as the time suffices."""
        request = self._request
        has_time = request.time_budget_s is not None and self._left_s() > 0
        return has_time if request.finetune is None else request.finetune

    def choose_epochs(self, measure_epoch_s: Callable[[], float], progress: Progress) -> int:
        """Return the number of epochs, 0 if there is no time for one."""
        if self._file.exists():
            return int(json.loads(self._file.read_text())["epochs"])
        wanted = self._request.epochs or EPOCHS
        epochs = wanted
        if self._request.time_budget_s is not None:
            epochs = max(0, min(wanted, int(self._left_s() / measure_epoch_s())))
        if epochs < wanted:
            progress.warn(
                f"the time budget allows {epochs} of {wanted} epochs; the same digest on another "
                f"machine needs --epochs {epochs} and no --time-budget"
                if epochs
                else "the time budget does not suffice for fine-tuning"
            )
        with atomic_write(self._file) as stream:
            stream.write(json.dumps({"epochs": epochs}).encode())
        return epochs

    def forget(self) -> None:
        """Delete the files, once the package is in its place."""
        self._file.unlink(missing_ok=True)
        self.state_file.unlink(missing_ok=True)

    def _left_s(self) -> float:
        budget_s = self._request.time_budget_s or 0.0
        return budget_s - RESERVED_S - (time.monotonic() - self._started)
