"""The results of the serving path for each image of a dataset."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app.errors import ApiError, OperatorError
from app.evaluation.dataset import Sample, read_image
from app.evaluation.served import ServedClassifier
from app.inference.engines.base import FloatArray
from app.inference.engines.plain import load_reference
from app.inference.local import LocalClassifier
from app.packages.build.reference import open_picture, reference_scores, transform_of
from app.packages.package import Package

TOP = 5
THRESHOLD = 0.5
"""Lowest score of a predicted label, for multi-label packages."""


@dataclass(frozen=True)
class Comparison:
    """Whether serving path and reference have the same top class, and how far a score is off."""

    same_top: bool
    difference: float


@dataclass(frozen=True)
class Outcome:
    """The result for one image; classes with the same label count as one, as clients see them.

    Attributes:
        sample: the image.
        truth: the correct labels, as indices into DistinctLabels.
        top: the labels with the TOP highest scores, best first.
        top_scores: their scores.
        truth_score: the highest score of a correct label.
        predicted: the first label, or for multi-label those with a score of at least THRESHOLD.
        confidences: the scores that count for the calibration.
        hits: for each of them, whether its label is correct.
        comparison: with the reference, or None without one.
    """

    sample: Sample
    truth: tuple[int, ...]
    top: tuple[int, ...]
    top_scores: tuple[float, ...]
    truth_score: float
    predicted: tuple[int, ...]
    confidences: FloatArray
    hits: npt.NDArray[np.bool_]
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Failure:
    """An image that the serving path rejects."""

    sample: Sample
    problem: str


class DistinctLabels:
    """The distinct labels of a package, in the order of their first class."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.names = list(dict.fromkeys(labels))
        self._index = {text: index for index, text in enumerate(self.names)}
        self._of_class = np.array([self._index[label] for label in labels])

    def indices(self, labels: Sequence[str]) -> tuple[int, ...]:
        """The indices of labels of the package."""
        return tuple(self._index[label] for label in labels)

    def scores(self, class_scores: FloatArray) -> FloatArray:
        """The score of each label: the highest of its classes, float32 (labels,)."""
        scores = np.full(len(self.names), -np.inf, np.float32)
        np.maximum.at(scores, self._of_class, class_scores)
        return scores


def evaluate(
    classifier: LocalClassifier | ServedClassifier,
    samples: Sequence[Sample],
    labels: DistinctLabels,
    with_reference: bool,
) -> Iterator[Outcome | Failure]:
    """Classify every image through the serving path, on all cores, in order.

    The reference is Pillow and the unoptimised model.
    """
    package = classifier.package
    reference = _reference(package) if with_reference else None
    is_multi_label = package.manifest.output.task == "multi_label"

    def work(sample: Sample) -> Outcome | Failure:
        data = read_image(sample.path)
        try:
            scores = classifier.score(data)
        except ApiError as exc:
            return Failure(sample, f"{exc.error_code} {exc.error_msg}: {exc.detail}")
        comparison = reference(data, sample, scores) if reference else None
        return make_outcome(sample, labels, labels.scores(scores), is_multi_label, comparison)

    return classifier.map(work, samples)


def make_outcome(
    sample: Sample,
    labels: DistinctLabels,
    scores: FloatArray,
    is_multi_label: bool,
    comparison: Comparison | None = None,
) -> Outcome:
    """Judge the scores of an image, one for each label; see Outcome."""
    truth = labels.indices(sample.labels)
    top = tuple(int(index) for index in np.argsort(-scores, kind="stable")[:TOP])
    judged = np.arange(len(scores)) if is_multi_label else np.array(top[:1])
    predicted = (
        tuple(int(i) for i in np.flatnonzero(scores >= THRESHOLD)) if is_multi_label else top[:1]
    )
    return Outcome(
        sample=sample,
        truth=truth,
        top=top,
        top_scores=tuple(float(scores[index]) for index in top),
        truth_score=max((float(scores[index]) for index in truth), default=0.0),
        predicted=predicted,
        confidences=scores[judged],
        hits=np.isin(judged, truth),
        comparison=comparison,
    )


def _reference(package: Package) -> Callable[[bytes, Sample, FloatArray], Comparison]:
    if package.manifest.model.format == "openvino":
        raise OperatorError(
            f"{package.folder}: --reference: an optimised model has no unoptimised form; compare "
            "it with the version that it was made from: --compare VERSION"
        )
    transform = transform_of(package.manifest.preprocess)
    engine = load_reference(package)
    spec, orientation = package.manifest.output, package.manifest.orientation

    def run(images: Any) -> FloatArray:
        return engine.infer(images.numpy())

    def compare(data: bytes, sample: Sample, scores: FloatArray) -> Comparison:
        image = transform(open_picture(data, str(sample.path), orientation))
        expected = reference_scores(run, image.unsqueeze(0), spec.kind, spec.task)[0]
        same = int(expected.argmax()) == int(scores.argmax())
        return Comparison(same, float(np.abs(expected - scores).max()))

    return compare
