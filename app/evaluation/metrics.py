"""Metrics of outcomes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from app.evaluation.outcomes import Outcome

CALIBRATION_BINS = 15
"""Guo et al., On Calibration of Modern Neural Networks, 2017."""

MAX_WORST = 24
MAX_PAIRS = 10


@dataclass(frozen=True)
class ClassResult:
    """How many images a label is correct for, was predicted for, and was rightly predicted for."""

    name: str
    images: int
    predicted: int
    right: int

    @property
    def precision(self) -> float | None:
        """Share of its predictions that are correct; None without predictions."""
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Share of its images for which it was predicted; None without images."""
        return self.right / self.images if self.images else None

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.right / (self.images + self.predicted)


@dataclass(frozen=True)
class Bin:
    """Scores in a range: how many, their mean, and the share of correct labels."""

    low: float
    high: float
    count: int
    mean_score: float
    accuracy: float


@dataclass(frozen=True)
class Reference:
    """Agreement of the serving path with Pillow and the unoptimised model."""

    images: int
    same_top: int
    largest_difference: float
    largest_difference_file: str


@dataclass(frozen=True)
class Metrics:
    """The metrics of a report.

    Attributes:
        top1: share of images whose first label is correct.
        top5: share with a correct label among the first five.
        exact_match: share whose predicted labels are exactly the correct ones.
        calibration_error: expected calibration error over the bins, 0 to 1.
        classes: one for each label that is correct or predicted for an image.
        bins: the non-empty ones, by score.
        confusions: (index of the correct label, index of the predicted one, images), of images
            with one correct label.
        worst: the mistakes with the highest scores.
    """

    images: int
    top1: float
    top5: float
    exact_match: float
    calibration_error: float
    classes: list[ClassResult]
    bins: list[Bin]
    confusions: list[tuple[int, int, int]]
    worst: list[Outcome]
    reference: Reference | None

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the labels that have images, each counting the same."""
        scores = [entry.f1 for entry in self.classes if entry.images]
        return sum(scores) / len(scores) if scores else 0.0

    @property
    def most_confused(self) -> list[tuple[int, int, int]]:
        """The pairs with the most mistakes, as in ``confusions``, the worst first."""
        mistakes = [pair for pair in self.confusions if pair[0] != pair[1]]
        return sorted(mistakes, key=lambda pair: -pair[2])[:MAX_PAIRS]


def compute_metrics(outcomes: Sequence[Outcome], names: Sequence[str]) -> Metrics:
    """Compute the metrics of at least one outcome."""
    count = len(outcomes)
    bins = _bins(outcomes)
    judged = sum(entry.count for entry in bins)
    wrong = [outcome for outcome in outcomes if outcome.top[0] not in outcome.truth]
    pairs = Counter(
        (outcome.truth[0], outcome.top[0]) for outcome in outcomes if len(outcome.truth) == 1
    )
    return Metrics(
        images=count,
        top1=1 - len(wrong) / count,
        top5=sum(not set(outcome.top).isdisjoint(outcome.truth) for outcome in outcomes) / count,
        exact_match=sum(set(o.predicted) == set(o.truth) for o in outcomes) / count,
        calibration_error=sum(
            entry.count / judged * abs(entry.accuracy - entry.mean_score) for entry in bins
        ),
        classes=_classes(outcomes, names),
        bins=bins,
        confusions=[(truth, found, images) for (truth, found), images in sorted(pairs.items())],
        worst=sorted(wrong, key=lambda o: o.truth_score - o.top_scores[0])[:MAX_WORST],
        reference=_compare(outcomes),
    )


def _classes(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[ClassResult]:
    images: Counter[int] = Counter()
    predicted: Counter[int] = Counter()
    right: Counter[int] = Counter()
    for outcome in outcomes:
        images.update(outcome.truth)
        predicted.update(outcome.predicted)
        right.update(set(outcome.truth) & set(outcome.predicted))
    return [
        ClassResult(names[index], images[index], predicted[index], right[index])
        for index in sorted(images.keys() | predicted.keys())
    ]


def _bins(outcomes: Sequence[Outcome]) -> list[Bin]:
    scores = np.concatenate([outcome.confidences for outcome in outcomes])
    hits = np.concatenate([outcome.hits for outcome in outcomes])
    place = np.clip((scores * CALIBRATION_BINS).astype(int), 0, CALIBRATION_BINS - 1)
    return [
        Bin(
            index / CALIBRATION_BINS,
            (index + 1) / CALIBRATION_BINS,
            int(inside.sum()),
            float(scores[inside].mean()),
            float(hits[inside].mean()),
        )
        for index in range(CALIBRATION_BINS)
        if (inside := place == index).any()
    ]


def _compare(outcomes: Sequence[Outcome]) -> Reference | None:
    compared = [(o.comparison, o.sample) for o in outcomes if o.comparison is not None]
    if not compared:
        return None
    worst, sample = max(compared, key=lambda pair: pair[0].difference)
    same = sum(comparison.same_top for comparison, _ in compared)
    return Reference(len(compared), same, worst.difference, str(sample.path))


def _pair(pair: tuple[int, int, int], names: Sequence[str]) -> dict[str, Any]:
    truth, found, images = pair
    return {"right": names[truth], "predicted": names[found], "images": images}


def to_json(metrics: Metrics, names: Sequence[str]) -> dict[str, Any]:
    """The metrics as JSON values."""
    return {
        "images": metrics.images,
        "top1": metrics.top1,
        "top5": metrics.top5,
        "exact_match": metrics.exact_match,
        "calibration_error": metrics.calibration_error,
        "macro_f1": metrics.macro_f1,
        "classes": [
            {**asdict(entry), "precision": entry.precision, "recall": entry.recall}
            for entry in metrics.classes
        ],
        "calibration": [asdict(entry) for entry in metrics.bins],
        "confusions": [_pair(pair, names) for pair in metrics.confusions],
        "most_confused": [_pair(pair, names) for pair in metrics.most_confused],
        "worst": [
            {
                "file": str(outcome.sample.path),
                "right": list(outcome.sample.labels),
                "right_score": outcome.truth_score,
                "predicted": names[outcome.top[0]],
                "score": outcome.top_scores[0],
            }
            for outcome in metrics.worst
        ],
        "reference": asdict(metrics.reference) if metrics.reference else None,
    }
