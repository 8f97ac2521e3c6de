"""The package of a training: its golden samples, and the record of how it was trained."""

import hashlib
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from app.evaluation.dataset import read_image
from app.evaluation.intervals import share_interval
from app.packages.build.builder import BuildRequest, build_package
from app.packages.build.golden import FAST_TOLERANCE
from app.packages.build.models import Module, Source
from app.packages.build.presets import Preset
from app.packages.build.reference import open_picture, reference_scores, transform_of
from app.packages.manifest import parse_preprocess
from app.packages.package import Package
from app.packages.store import latest_version
from app.training.backbone import Backbone
from app.training.candidate import Candidate
from app.training.finetune import Epoch
from app.training.inspection import Inspected
from app.training.progress import Progress
from app.training.request import TrainingData, TrainingRequest

MAX_GOLDEN = 8
_GOLDEN_MARGIN = 4
_DIGITS = 6
_RECORDED = ("torch", "torchvision", "scikit-learn", "numpy", "opencv-python-headless")


def record_training(
    request: TrainingRequest,
    data: TrainingData,
    backbone: Backbone,
    chosen: Candidate,
    strength: float,
    history: Sequence[Epoch],
) -> dict[str, Any]:
    """Describe the training as JSON values; the same training gives the same values."""
    counts = Counter((p.photo.label, p.photo.held_out) for p in [*data.train, *data.held_out])
    before, after = chosen.errors
    return {
        "method": chosen.method,
        "backbone": {"architecture": backbone.name, "weights_sha256": backbone.digest},
        "settings": {
            "seed": request.seed,
            "linear_strength": strength,
            "fine_tuning_epochs": len(history),
        },
        "photos_sha256": digest_photos(data),
        "photos": {
            label: {"train": counts[label, False], "held_out": counts[label, True]}
            for label in data.classes
        },
        "held_out": {
            "photos": len(data.held_out),
            "top1": _round(chosen.right / len(data.held_out)),
            "top1_interval_95": [
                _round(end) for end in share_interval(chosen.right, len(data.held_out))
            ],
            "log_loss": _round(chosen.loss),
            "temperature": _round(chosen.temperature),
            "calibration_error_before": _round(before),
            "calibration_error": _round(after),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("classifyd", *_RECORDED)},
        },
    }


def digest_photos(data: TrainingData) -> str:
    """Identify the photos with their labels and sides, whatever their folder is called."""
    lines = sorted(
        f"{entry.photo.held_out} {entry.sha256} {entry.photo.label}"
        for entry in [*data.train, *data.held_out]
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def build(
    request: TrainingRequest,
    data: TrainingData,
    backbone: Backbone,
    chosen: Candidate,
    training: dict[str, Any],
    check: Callable[[Package], object],
    progress: Progress,
) -> Package:
    """Build the package of the chosen network; see build_package."""
    network = chosen.calibrated_network(backbone)
    golden = choose_golden(data, backbone, chosen, network)
    build_request = BuildRequest(
        name=request.name,
        version=_choose_version(request),
        source=Source(lambda _: network),
        labels=data.classes,
        preset=lambda _: Preset(backbone.steps, None, backbone.name),
        kind="logits",
        golden=tuple(str(entry.photo.path) for entry in golden),
        training=training,
        replace=request.replace,
    )
    return build_package(request.weights_dir, build_request, check, progress.stage)


def choose_golden(
    data: TrainingData, backbone: Backbone, chosen: Candidate, network: Module
) -> list[Inspected]:
    """Choose held-out photos that are right, with high scores, of as many classes as possible.

    The builder's reference decodes with Pillow; a photo whose score that moves by a quarter of
    the tolerance is too sensitive for a golden sample.
    """
    transform = transform_of(parse_preprocess(backbone.steps, backbone.name))
    each = max(1, MAX_GOLDEN // len(data.classes))
    order = np.argsort(-chosen.scores.max(axis=1), kind="stable")
    golden: list[Inspected] = []
    found: Counter[int] = Counter()
    for index in map(int, order):
        label = int(chosen.labels[index])
        is_right = int(chosen.scores[index].argmax()) == label
        if len(golden) == MAX_GOLDEN or not is_right or found[label] == each:
            continue
        path = data.held_out[index].photo.path
        picture = transform(open_picture(read_image(path), str(path), "exif"))
        scores = reference_scores(network, picture.unsqueeze(0), "logits", "single_label")[0]
        if np.abs(scores - chosen.scores[index]).max() <= FAST_TOLERANCE / _GOLDEN_MARGIN:
            golden.append(data.held_out[index])
            found[label] += 1
    return golden


def _choose_version(request: TrainingRequest) -> str:
    latest = latest_version(request.weights_dir / request.name)
    return str(max(1, latest if request.replace else latest + 1))


def _round(number: float) -> float:
    return round(number, _DIGITS)
