"""Numbers from outcomes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from app.evaluation.outcomes import Outcome

BINS = 15
"""Of the calibration: Guo et al., On Calibration of Modern Neural Networks, 2017."""

WORST = 24


@dataclass(frozen=True)
class ClassResult:
    """One name's counts.

    Attributes:
        name: the label.
        images: images of which it is right.
        predicted: images for which it was predicted.
        right: images for which both hold.
    """

    name: str
    images: int
    predicted: int
    right: int

    @property
    def precision(self) -> float | None:
        """Of its predictions, how many are right; None without any."""
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Of its images, how many were found; None without any."""
        return self.right / self.images if self.images else None


@dataclass(frozen=True)
class Bin:
    """A range of scores: how many, what they promised, what was true."""

    low: float
    high: float
    count: int
    mean_score: float
    accuracy: float


@dataclass(frozen=True)
class Reference:
    """How the serving path agrees with Pillow and the unoptimised model."""

    images: int
    same_top: int
    largest_difference: float
    largest_difference_file: str


@dataclass(frozen=True)
class Metrics:
    """Everything that a report says of the answers.

    Attributes:
        images: how many were answered.
        top1: part of the images whose first name is right.
        top5: part with a right name among the first five.
        exact_match: part whose predicted names are exactly the right ones.
        calibration_error: expected calibration error over the bins, 0 to 1.
        classes: one for each name that is right or predicted somewhere.
        bins: the non-empty ones, by score.
        confusions: (right name, predicted name, images) where they differ or agree, for
            single-label packages.
        worst: the wrong answers with the highest scores.
        reference: None when it was not asked for.
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


def compute_metrics(outcomes: Sequence[Outcome], names: Sequence[str]) -> Metrics:
    """Reduce outcomes, at least one, to numbers."""
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
        worst=sorted(wrong, key=lambda o: o.truth_score - o.top_scores[0])[:WORST],
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
    place = np.clip((scores * BINS).astype(int), 0, BINS - 1)
    return [
        Bin(
            index / BINS,
            (index + 1) / BINS,
            int(inside.sum()),
            float(scores[inside].mean()),
            float(hits[inside].mean()),
        )
        for index in range(BINS)
        if (inside := place == index).any()
    ]


def _compare(outcomes: Sequence[Outcome]) -> Reference | None:
    compared = [(o.comparison, o.sample) for o in outcomes if o.comparison is not None]
    if not compared:
        return None
    worst, sample = max(compared, key=lambda pair: pair[0].difference)
    same = sum(comparison.same_top for comparison, _ in compared)
    return Reference(len(compared), same, worst.difference, str(sample.path))


def to_json(metrics: Metrics, names: Sequence[str]) -> dict[str, Any]:
    """The metrics as JSON values."""
    return {
        "images": metrics.images,
        "top1": metrics.top1,
        "top5": metrics.top5,
        "exact_match": metrics.exact_match,
        "calibration_error": metrics.calibration_error,
        "classes": [
            {**asdict(entry), "precision": entry.precision, "recall": entry.recall}
            for entry in metrics.classes
        ],
        "calibration": [asdict(entry) for entry in metrics.bins],
        "confusions": [
            {"right": names[truth], "predicted": names[found], "images": images}
            for truth, found, images in metrics.confusions
        ],
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
