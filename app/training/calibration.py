"""Calibration: the temperature of the scores."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from app.evaluation.metrics import CALIBRATION_BINS

Labels = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float64]

_LARGEST_LOG_TEMPERATURE = 4.0


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """Find the temperature at which the logits, divided by it, have the smallest log loss.

    Guo et al., On Calibration of Modern Neural Networks, 2017. As in Platt, Probabilistic
    Outputs for Support Vector Machines, 1999, a photo's label counts as a little uncertain:
    otherwise scores would become 1 where all held-out photos are right.

    Args:
        logits: float64 (photos, classes).
        labels: class indices (photos,).
    """
    count, classes = logits.shape
    doubt = 1 / (count + 2)
    targets = np.full((count, classes), doubt / (classes - 1))
    targets[np.arange(count), labels] = 1 - doubt

    def loss(log_temperature: float) -> float:
        return -float((targets * log_softmax(logits / np.exp(log_temperature), axis=1)).sum())

    bounds = (-_LARGEST_LOG_TEMPERATURE, _LARGEST_LOG_TEMPERATURE)
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def log_loss(logits: Logits, labels: Labels) -> float:
    """The mean negative logarithm of the score of the right class."""
    return -float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def calibration_error(logits: Logits, labels: Labels) -> float:
    """The expected calibration error, 0 to 1, over the bins of the evaluation report."""
    scores = softmax(logits, axis=1)
    confidence, hits = scores.max(axis=1), scores.argmax(axis=1) == labels
    place = np.clip((confidence * CALIBRATION_BINS).astype(int), 0, CALIBRATION_BINS - 1)
    inside = [place == index for index in range(CALIBRATION_BINS)]
    gaps = [abs(float(hits[i].sum() - confidence[i].sum())) for i in inside]
    return sum(gaps) / len(labels)
