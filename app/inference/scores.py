"""Conversion of a model's raw output to scores and ranked labels."""

import math
from collections.abc import Sequence

import numpy as np

from app.errors import InternalError
from app.inference.engines.base import FloatArray
from app.packages.manifest import OutputSpec
from app.packages.probabilities import find_probability_problem

SMALL_TOP_K = 16
"""Up to this number of results are found one by one; sorting 1000 classes for 6 of them takes
three times as long."""


def to_scores(output: FloatArray, spec: OutputSpec) -> FloatArray:
    """Convert one image's raw output to scores, which are probabilities.

    Raises:
        InternalError: see convert; or the output is declared as probabilities and is none.
    """
    scores = convert(output, spec)
    if spec.kind == "probabilities":
        if problem := find_probability_problem(scores, spec.task):
            raise InternalError(f"the model's output is declared as probabilities, but {problem}")
        return scores.clip(0, 1)
    return scores


def convert(output: FloatArray, spec: OutputSpec) -> FloatArray:
    """Convert one image's raw output as a package declares it, be it right or not.

    Args:
        output: float32 (classes,).
        spec: logits become probabilities by softmax (single-label) or the logistic
            function (multi-label); probabilities are returned unchanged.

    Returns:
        float32 (classes,).

    Raises:
        InternalError: the output has the wrong shape, or a value that is not finite.
    """
    if output.shape != (spec.classes,):
        raise InternalError("the model's output has the wrong shape")
    # NaN propagates through maximum and minimum, so two reductions check every value.
    largest, smallest = np.maximum.reduce(output), np.minimum.reduce(output)
    if not (math.isfinite(largest) and math.isfinite(smallest)):
        raise InternalError("the model's output is not finite")
    if spec.kind == "probabilities":
        return output
    if spec.task == "multi_label":
        # The exponential of a non-positive number cannot overflow.
        small = np.exp(-np.abs(output))
        return np.where(output >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
    scores: FloatArray = output - largest
    np.exp(scores, scores)
    np.divide(scores, np.add.reduce(scores), scores)
    return scores


def rank(scores: FloatArray, labels: Sequence[str], top_num: int) -> list[dict[str, str | float]]:
    """List the highest scores with their labels.

    Args:
        scores: float32 (classes,).
        labels: one for each class.
        top_num: number of results, at least 1; all classes if it is larger than their number.

    Returns:
        ``name`` and ``score`` by descending score, equal scores by class index; the score
        is the float32 value, unrounded.
    """
    count = min(top_num, scores.size)
    order = (
        _few_best(scores, count)
        if count <= SMALL_TOP_K
        else np.argsort(-scores, kind="stable")[:count]
    )
    return [{"name": labels[index], "score": float(scores[index])} for index in order]


def _few_best(scores: FloatArray, count: int) -> list[int]:
    """Find the highest score repeatedly; ``argmax`` returns the first of equal scores."""
    left, order = scores.copy(), []
    for _ in range(count):
        index = int(left.argmax())
        order.append(index)
        left[index] = -np.inf
    return order
