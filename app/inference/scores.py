"""A model's raw output to scores and ranked labels."""

import math
from collections.abc import Sequence

import numpy as np

from app.errors import InternalError
from app.inference.engines.base import FloatArray
from app.packages.manifest import OutputSpec

SMALL_TOP_K = 16
"""So many results are found one by one; sorting a thousand classes for six of them takes three
times as long."""


def to_scores(output: FloatArray, spec: OutputSpec) -> FloatArray:
    """Turn one image's raw output into scores.

    Args:
        output: float32 (classes,).
        spec: logits become probabilities by softmax (single-label) or the logistic
            function (multi-label); probabilities stay as they are.

    Returns:
        float32 (classes,).

    Raises:
        InternalError: the output has another shape, or a value that is not finite.
    """
    if output.shape != (spec.classes,):
        raise InternalError("the model's output has the wrong shape")
    # The ends of the range tell whether any value is infinite or no number.
    largest, smallest = np.maximum.reduce(output), np.minimum.reduce(output)
    if not (math.isfinite(largest) and math.isfinite(smallest)):
        raise InternalError("the model's output is not finite")
    if spec.kind == "probabilities":
        return output
    if spec.task == "multi_label":
        # One exponential of a non-positive number on each side: it cannot overflow.
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
        top_num: how many, at least 1; more than there are classes gives all.

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
    """Find the best again and again; ``argmax`` takes the first of equal scores."""
    left, order = scores.copy(), []
    for _ in range(count):
        index = int(left.argmax())
        order.append(index)
        left[index] = -np.inf
    return order
