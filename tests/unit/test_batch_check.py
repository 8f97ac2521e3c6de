"""Scores do not depend on the other images of a batch, or there are no batches."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.inference.batch_check import BatchCheck
from app.inference.classifier import Classifier, deadline_after, load_classifier
from app.inference.engines import openvino
from app.inference.engines.base import LoadedEngine
from app.inference.engines.torchscript import PlainTorchScript, TorchScriptEngine
from app.inference.queue import InferenceQueue
from app.inference.tuning.comparison import select_engine
from app.inference.tuning.selection import EngineRequirements
from app.packages.package import Package, load_package
from app.settings import PROJECT_ROOT
from tests.support.models import SIDE, classifyd, script, sharp, write_labels

AUTO = EngineRequirements("auto", "float32", "cpu", 2, 0.001)


class CentredOnTheBatch(nn.Module):
    """Subtracts the mean over dimension 0."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.mean(dim=(2, 3)) * 10
        return logits - logits.mean(0, keepdim=True) * 0.1


class WithoutRunningStatistics(nn.Module):
    """Normalises with the statistics of the batch, in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)
        self.head = nn.Linear(8 * 16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.norm(self.convolution(images)))
        logits: torch.Tensor = self.head(nn.functional.adaptive_avg_pool2d(features, 4).flatten(1))
        return logits * 4


class RelativeToTheFirst(nn.Module):
    """The first image of a batch has the scores that it has alone."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.mean(dim=(2, 3)) * 10
        return logits - logits[:1].roll(1, 1) * 0.01


class DividedBySize(nn.Module):
    """Other images do not matter, but how many there are does."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)) * 10 / images.shape[0]


class OnlyOne(nn.Module):
    """Exported for one image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)).view(1, 3) * 10


class TheFirstOfSeveral(nn.Module):
    """Returns one row, whatever the batch."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))[0].view(1, 3) * 10


MIXING = {
    kind.__name__: kind
    for kind in (
        *(CentredOnTheBatch, WithoutRunningStatistics, RelativeToTheFirst),
        *(DividedBySize, OnlyOne, TheFirstOfSeveral),
    )
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    """A package of each model, with golden samples, from the builder."""
    folder = tmp_path_factory.mktemp("mixing")
    labels = write_labels(folder / "labels.txt", ["red", "green", "blue"])
    packages = {}
    for name, model in {
        **{name: kind() for name, kind in MIXING.items()},
        "Good": sharp(3),
    }.items():
        result = classifyd(
            "package", "build", name, "1", "--weights-dir", folder / "weights", "--labels", labels,
            "--torchscript", script(model, folder / f"{name}.pt"), "--resize", SIDE,
        )  # fmt: skip
        assert result.exit_code == 0, result.exception
        assert ("served one image at a time" in result.output) == (name != "Good")
        packages[name] = load_package(folder / "weights" / name / "1")
    return packages


@pytest.fixture
def queue() -> Iterator[InferenceQueue]:
    queue = InferenceQueue(1)
    yield queue
    queue.close()


@pytest.mark.parametrize("name", MIXING)
def test_a_model_that_mixes_images_is_found_at_every_size(
    packages: dict[str, Package], name: str
) -> None:
    check = BatchCheck(packages[name], PlainTorchScript(packages[name].model_path), 0.005)
    assert all(check.find_problem(size) for size in range(2, 9))


def test_a_right_model_has_no_problem_at_any_size(packages: dict[str, Package]) -> None:
    package = packages["Good"]
    check = BatchCheck(package, TorchScriptEngine(package.model_path, package.manifest.input), 1e-5)
    assert [check.find_problem(size) for size in range(1, 33)] == [""] * 32


@pytest.mark.parametrize("name", MIXING)
def test_tuning_selects_no_batches_for_a_model_that_mixes_images(
    packages: dict[str, Package], tmp_path: Path, name: str
) -> None:
    selection = select_engine(packages[name], AUTO, tmp_path, lambda _: None)
    assert selection.max_batch == 1
    refused = [row for row in selection.measurements if row.batch > 1]
    assert refused
    assert all(row.problem and not row.ms for row in refused)


@pytest.mark.skipif(not openvino.is_installed(), reason="an optional extra")
def test_tuning_measures_batches_of_a_right_model(
    packages: dict[str, Package], tmp_path: Path
) -> None:
    selection = select_engine(packages["Good"], AUTO, tmp_path, lambda _: None)
    measured = [row for row in selection.measurements if row.batch > 1]
    assert {row.batch for row in measured} == {2, 4, 8}
    assert all(row.ms and not row.problem for row in measured)


def _load(package: Package, queue: InferenceQueue, max_batch: int) -> Classifier:
    def loader(_: Package) -> LoadedEngine:
        engine = TorchScriptEngine(package.model_path, package.manifest.input)
        return LoadedEngine(engine, max_batch, batch_tolerance=0.001)

    return load_classifier(package, loader, queue)


@pytest.mark.parametrize("name", MIXING)
def test_a_worker_never_mixes_images_even_if_batches_were_selected(
    packages: dict[str, Package],
    queue: InferenceQueue,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    with caplog.at_level(logging.WARNING):
        classifier = _load(packages[name], queue, 4)
    assert f"{name}: one image at a time: " in caplog.text
    images = np.random.default_rng(0).random((32, 3, SIDE, SIDE), np.float32)
    alone = [classifier.infer(image, deadline_after(60_000)).scores for image in images]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda i: classifier.infer(i, deadline_after(60_000)), images))
    assert {inference.batch_size for inference in together} == {1}
    for inference, scores in zip(together, alone, strict=True):
        assert np.array_equal(inference.scores, scores)


def test_a_worker_computes_batches_of_a_right_model(
    packages: dict[str, Package], queue: InferenceQueue
) -> None:
    classifier = _load(packages["Good"], queue, 4)
    images = np.random.default_rng(0).random((64, 3, SIDE, SIDE), np.float32)
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda i: classifier.infer(i, deadline_after(60_000)), images))
    assert max(inference.batch_size for inference in together) > 1


def test_verify_names_the_problem(packages: dict[str, Package]) -> None:
    ended = classifyd("package", "verify", packages["WithoutRunningStatistics"].folder)
    assert ended.exit_code == 0, ended.exception
    assert "BatchNorm layer without running statistics" in ended.output
    assert "in a batch of 2, other images change a score by 0." in ended.output


def test_the_demo_model_may_be_computed_in_batches() -> None:
    package = load_package(PROJECT_ROOT / "weights/imagenet/1")
    check = BatchCheck(package, PlainTorchScript(package.model_path), 0.001)
    assert [check.find_problem(size) for size in (2, 5, 8)] == ["", "", ""]
