"""A model's raw output to scores and ranked labels."""

from collections.abc import Sequence

import numpy as np

from app.errors import InternalError
from app.inference.engine import FloatArray
from app.packages.manifest import OutputSpec


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
    if output.shape != (spec.classes,) or not np.isfinite(output).all():
        raise InternalError("the model's output is not finite or has the wrong shape")
    if spec.kind == "probabilities":
        return output
    if spec.task == "multi_label":
        # One exponential of a non-positive number on each side: it cannot overflow.
        small = np.exp(-np.abs(output))
        return np.where(output >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
    exponentials = np.exp(output - output.max())
    scores: FloatArray = exponentials / exponentials.sum()
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
    candidates = np.arange(scores.size)
    if top_num < scores.size:
        # Sorting all of a thousand classes takes ten times as long.
        candidates = np.flatnonzero(scores >= np.partition(scores, -top_num)[-top_num])
    order = candidates[np.argsort(-scores[candidates], kind="stable")][:top_num]
    return [{"name": labels[index], "score": float(scores[index])} for index in order]
