"""Whether numbers that are declared as probabilities can be some."""

import numpy as np
import numpy.typing as npt

RANGE_TOLERANCE = 1e-3
SUM_TOLERANCE = 1e-2
"""For outputs rounded to bfloat16, which has 8 bits: a softmax over many classes."""


def find_probability_problem(scores: npt.NDArray[np.float32], task: str) -> str:
    """Say why one image's scores, float32 (classes,), are no probabilities; empty if they are."""
    extreme = max(float(scores.min()), float(scores.max()), key=lambda score: abs(score - 0.5))
    if not -RANGE_TOLERANCE <= extreme <= 1 + RANGE_TOLERANCE:
        return f"a score is {extreme:.4f}, outside 0 to 1"
    total = float(np.add.reduce(scores))
    if task == "single_label" and abs(total - 1) > SUM_TOLERANCE:
        return f"the scores of an image sum to {total:.4f}, not to 1"
    return ""
