"""What a candidate gives for the photos, compared with float32."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.evaluation.dataset import Sample
from app.evaluation.intervals import Interval, drop_interval, share_interval
from app.evaluation.metrics import compute_metrics
from app.evaluation.outcomes import DistinctLabels, Outcome, make_outcome
from app.inference.engines.base import Engine, FloatArray
from app.inference.scores import to_scores
from app.optimisation.photos import Indices
from app.packages.manifest import OutputSpec
from app.packages.package import Package
from app.system.cpus import usable_cpus

_RESAMPLES = 200


@dataclass(frozen=True)
class Share:
    """A share of the photos, 0 to 1, and its 95 % interval."""

    share: float
    interval_95: Interval


@dataclass(frozen=True)
class Quality:
    """The quality of a candidate on some photos.

    Attributes:
        photos: their number.
        top1: share whose first label is correct.
        top5: share with a correct label among the first five.
        agreement: share with the first label of float32.
        drop: of the top-1, compared with float32; negative for a gain.
        calibration_error: expected calibration error; its interval is a bootstrap.
    """

    photos: int
    top1: Share
    top5: Share
    agreement: Share
    drop: Share
    calibration_error: Share


def score_inputs(engine: Engine, inputs: FloatArray, spec: OutputSpec) -> FloatArray:
    """Score preprocessed photos one by one on all cores, float32 (photos, classes).

    Raises:
        InternalError: an output is not finite, or is declared as probabilities and is none.
    """

    def score(image: FloatArray) -> FloatArray:
        return to_scores(engine.infer(np.ascontiguousarray(image[np.newaxis]))[0], spec)

    with ThreadPoolExecutor(usable_cpus()) as pool:
        return np.stack(list(pool.map(score, inputs)))


def divergence(expected: FloatArray, scores: FloatArray) -> float:
    """The mean Kullback-Leibler divergence of scores from float32's, each label for itself.

    It changes smoothly where the top-1 of some hundred photos moves by a point by chance.
    """
    p, q = (np.clip(array.astype(np.float64), 1e-9, 1) for array in (expected, scores))
    return float((p * np.log(p / q)).sum(axis=1).mean())


def judge(
    package: Package, samples: Sequence[Sample], scores: FloatArray, float32: FloatArray
) -> Quality:
    """Compare scores with the labels and with those of float32; see Quality.

    Both are float32 (photos, classes) for the samples in their order.
    """
    labels = DistinctLabels(package.labels)
    is_multi_label = package.manifest.output.task == "multi_label"

    def outcomes(rows: FloatArray) -> list[Outcome]:
        pairs = zip(samples, rows, strict=True)
        return [make_outcome(s, labels, labels.scores(row), is_multi_label) for s, row in pairs]

    found, before = outcomes(scores), outcomes(float32)
    right, right_before = (
        np.array([o.top[0] in o.truth for o in each]) for each in (found, before)
    )
    same = sum(a.top[0] == b.top[0] for a, b in zip(found, before, strict=True))
    lost, gained = int((right_before & ~right).sum()), int((right & ~right_before).sum())
    metrics = compute_metrics(found, labels.names)
    count = len(found)
    top5 = round(metrics.top5 * count)
    return Quality(
        photos=count,
        top1=Share(metrics.top1, share_interval(int(right.sum()), count)),
        top5=Share(metrics.top5, share_interval(top5, count)),
        agreement=Share(same / count, share_interval(same, count)),
        drop=Share((lost - gained) / count, drop_interval(lost, gained, count)),
        calibration_error=Share(metrics.calibration_error, _bootstrap(found, labels.names)),
    )


def _bootstrap(outcomes: Sequence[Outcome], names: Sequence[str]) -> Interval:
    generator = np.random.default_rng(0)
    errors = []
    for _ in range(_RESAMPLES):
        chosen: Any = generator.integers(0, len(outcomes), len(outcomes))
        errors.append(compute_metrics([outcomes[i] for i in chosen], names).calibration_error)
    low, high = np.percentile(errors, (2.5, 97.5))
    return float(low), float(high)


def pick(samples: Sequence[Sample], indices: Indices) -> list[Sample]:
    """The samples at some indices."""
    return [samples[index] for index in indices]
