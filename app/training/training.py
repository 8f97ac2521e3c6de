"""The training, from the folder of photos to the package, in a straight line."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from app.packages.build.models import Module
from app.packages.package import Package
from app.training.augmentation import AugmentedReader
from app.training.backbone import Backbone
from app.training.calibration import Logits
from app.training.candidate import Candidate, make_candidate
from app.training.device import Device
from app.training.features import InputReader, compute_features
from app.training.finetune import Epoch, FineTuning
from app.training.inspection import Inspected, describe_leaks, inspect_photos, near_duplicates
from app.training.linear import LinearClassifier, fit_linear, learning_curve
from app.training.packaging import build, digest_photos, record_training
from app.training.photos import Photo, read_photos
from app.training.plan import FineTuningPlan
from app.training.progress import Progress
from app.training.request import TrainingData, TrainingRequest, TrainingResult
from app.training.split import split_photos
from app.training.work import claim_work_folder, key_of


def train(
    request: TrainingRequest, check: Callable[[Package], object], progress: Progress
) -> TrainingResult:
    """Train a classifier on a folder of photos and build its package.

    Args:
        request: what to train.
        check: called with the package before it is put in place; see build_package.
        progress: told what happens.

    Raises:
        OperatorError: the photos, the network or a folder is not as it must be; the text says
            what to do. After an interruption the same request goes on where it ended.
    """
    started = time.monotonic()
    photos, remarks = read_photos(request.folder)
    for remark in remarks:
        progress.warn(remark)
    with claim_work_folder(request.work_dir / request.name) as work:
        return _train(request, photos, work, started, check, progress)


def _train(
    request: TrainingRequest,
    photos: list[Photo],
    work: Path,
    started: float,
    check: Callable[[Package], object],
    progress: Progress,
) -> TrainingResult:
    device = Device(request.device)
    data = _read_data(request, photos, device, progress)
    progress.stage("loading the network")
    backbone = request.load_backbone()
    key = key_of({"weights": backbone.digest, "steps": backbone.steps})
    everything = [*data.train, *data.held_out]
    features = compute_features(backbone, everything, device, work / f"features-{key}", progress)

    progress.stage("fitting the linear classifier")
    known, unknown = features[: len(data.train)], features[len(data.train) :]
    labels, held_out = data.indices(data.train), data.indices(data.held_out)
    linear = fit_linear(known, labels, request.seed)
    network = backbone.with_head(linear.as_layer())
    candidates = [make_candidate("linear", network, linear.logits(unknown), held_out)]
    progress.line(_describe(candidates[0]))
    curve = learning_curve(known, labels, (unknown, held_out), linear.strength, request.seed)

    plan = FineTuningPlan(request, work, _key(request, data, backbone), started)
    history: list[Epoch] = []
    if plan.is_wanted:
        tuned, history = _fine_tune(request, plan, data, backbone, linear, device, progress)
        candidates += tuned
    chosen = min(candidates, key=lambda candidate: candidate.loss)
    if len(candidates) > 1:
        progress.line(f"{chosen.method} has the smaller log loss and is packaged")
    training = record_training(request, data, backbone, chosen, linear.strength, history)
    package = build(request, data, backbone, chosen, training, check, progress)
    plan.forget()
    return TrainingResult(package, data, chosen, curve, history, training)


def _read_data(
    request: TrainingRequest, photos: list[Photo], device: Device, progress: Progress
) -> TrainingData:
    with progress.bar("reading the photos", len(photos)) as advance:

        def run(
            work: Callable[[Photo], Inspected | str], items: Sequence[Photo]
        ) -> list[Inspected | str]:
            results = []
            for result in device.map(work, items):
                results.append(result)
                advance(1)
            return results

        inspected, remarks = inspect_photos(request.folder, photos, run)
    pairs = near_duplicates(inspected)
    decided, more = split_photos(inspected, pairs, request.seed)
    for remark in (*remarks, *more, *describe_leaks(request.folder, decided, pairs)):
        progress.warn(remark)
    return TrainingData(
        sorted({entry.photo.label for entry in decided}),
        [entry for entry in decided if not entry.photo.held_out],
        [entry for entry in decided if entry.photo.held_out],
    )


def _fine_tune(
    request: TrainingRequest,
    plan: FineTuningPlan,
    data: TrainingData,
    backbone: Backbone,
    linear: LinearClassifier,
    device: Device,
    progress: Progress,
) -> tuple[list[Candidate], list[Epoch]]:
    network = backbone.with_head(linear.as_layer())
    labels, held_out = data.indices(data.train), data.indices(data.held_out)
    augmented = AugmentedReader(backbone)
    tuning = FineTuning(network, data.train, labels, augmented, device, request.seed)
    read = InputReader(backbone)

    def score(model: Module) -> Logits:
        def logits(photo: Inspected) -> Logits:
            image = torch.from_numpy(read(photo)).unsqueeze(0).to(device.torch)
            with torch.inference_mode():
                found: Logits = model(image)[0].double().cpu().numpy()
            return found

        return np.stack(list(device.map(logits, data.held_out)))

    epochs = plan.choose_epochs(tuning.measure_epoch_s, progress)
    if not epochs:
        return [], []
    history = tuning.run(epochs, score, held_out, plan.state_file, progress)
    candidate = make_candidate("fine-tuned", network, score(network), held_out)
    progress.line(_describe(candidate))
    return [candidate], history


def _key(request: TrainingRequest, data: TrainingData, backbone: Backbone) -> str:
    """What the fine-tuning depends on, beside the number of its epochs."""
    return key_of(
        {
            "photos": digest_photos(data),
            "backbone": backbone.digest,
            "steps": backbone.steps,
            "seed": request.seed,
            "epochs": request.epochs,
            "budget": request.time_budget_s,
            "torch": torch.__version__,
        }
    )


def _describe(candidate: Candidate) -> str:
    count = len(candidate.labels)
    return (
        f"{candidate.method}: {candidate.right} of {count} held-out photos right, top-1 "
        f"{candidate.right / count:.1%}, log loss {candidate.loss:.3f}"
    )
