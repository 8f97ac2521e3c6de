"""What a training is asked for, the photos it has, and what comes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.packages.package import Package
from app.training.backbone import Backbone
from app.training.calibration import Labels
from app.training.candidate import Candidate
from app.training.finetune import Epoch
from app.training.inspection import Inspected


@dataclass(frozen=True)
class TrainingRequest:
    """What to train.

    Attributes:
        folder: the photos.
        name: the deploy name.
        weights_dir: the weights folder.
        work_dir: for what an interrupted training goes on with.
        load_backbone: loads the network.
        seed: of everything that is drawn.
        finetune: whether to fine-tune; None to do so if there is a budget and it suffices.
        epochs: of the fine-tuning; None for the default, or as many as the budget allows.
        time_budget_s: for the whole training, in seconds; None for any time.
        device: ``auto``, ``cpu`` or ``cuda``.
        replace: whether the latest version is replaced.
    """

    folder: Path
    name: str
    weights_dir: Path
    work_dir: Path
    load_backbone: Callable[[], Backbone]
    seed: int = 0
    finetune: bool | None = None
    epochs: int | None = None
    time_budget_s: float | None = None
    device: str = "auto"
    replace: bool = False


@dataclass(frozen=True)
class TrainingData:
    """The labels by class index, and the photos of both sides."""

    classes: list[str]
    train: list[Inspected]
    held_out: list[Inspected]

    def indices(self, photos: Sequence[Inspected]) -> Labels:
        """The class indices of photos."""
        place = {label: index for index, label in enumerate(self.classes)}
        return np.array([place[entry.photo.label] for entry in photos], np.int64)


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training.

    Attributes:
        package: in its place.
        data: the photos; those held out are in the order of the scores of ``chosen``.
        chosen: what was packaged.
        curve: see learning_curve.
        history: the epochs of the fine-tuning; empty without it.
        training: the documentation in the manifest.
    """

    package: Package
    data: TrainingData
    chosen: Candidate
    curve: list[tuple[int, float]]
    history: list[Epoch]
    training: dict[str, Any]
