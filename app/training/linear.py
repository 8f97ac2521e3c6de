"""The linear classifier on the features, by scikit-learn."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from app.inference.engines.base import FloatArray
from app.training.calibration import Labels, Logits

STRENGTHS = (0.001, 0.01, 0.03, 0.1, 1.0)
"""scikit-learn's C of which cross-validation takes the one with the smallest log loss."""

MIN_SEARCHED, MAX_SEARCHED = 20, 5000
"""With fewer photos of a class the search finds chance; with more in total it takes long, and the
strength hardly matters."""

DEFAULT_STRENGTH = 0.1
CURVE_SIZES = (5, 10, 20, 50)
_CURVE_DRAWS = 5
_FOLDS = 5
_MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class LinearClassifier:
    """Weights, float64 (classes, width), and biases, float64 (classes,), and their strength C."""

    weight: Logits
    bias: Logits
    strength: float

    def logits(self, features: FloatArray) -> Logits:
        """Compute the logits, float64 (photos, classes)."""
        found: Logits = features.astype(np.float64) @ self.weight.T + self.bias
        return found

    def as_layer(self) -> torch.nn.Linear:
        """Make the layer of a network."""
        classes, width = self.weight.shape
        layer = torch.nn.Linear(width, classes)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weight))
            layer.bias.copy_(torch.from_numpy(self.bias))
        return layer


def fit_linear(features: FloatArray, labels: Labels, seed: int) -> LinearClassifier:
    """Fit a logistic regression on standardised features.

    Args:
        features: float32 (photos, width).
        labels: class indices (photos,), at least two of each class.
        seed: of the parts of the cross-validation.
    """
    # More threads would change the order of sums, and with it the last digits.
    with threadpool_limits(1):
        return _fit(features, labels, _find_strength(features, labels, seed))


def learning_curve(
    features: FloatArray,
    labels: Labels,
    held_out: tuple[FloatArray, Labels],
    strength: float,
    seed: int,
) -> list[tuple[int, float]]:
    """Measure how top-1 on the held-out photos grows with the number of photos.

    Returns:
        (photos of each class at most, mean top-1 of some draws) up to all photos.
    """
    largest = int(np.bincount(labels).max())
    random = np.random.default_rng(seed)
    curve = []
    with threadpool_limits(1):
        for size in (*(size for size in CURVE_SIZES if size < largest), largest):
            draws = _CURVE_DRAWS if size < largest else 1
            tops = []
            for _ in range(draws):
                drawn = np.concatenate(
                    [
                        random.permutation(np.flatnonzero(labels == label))[:size]
                        for label in np.unique(labels)
                    ]
                )
                logits = _fit(features[drawn], labels[drawn], strength).logits(held_out[0])
                tops.append(float((logits.argmax(axis=1) == held_out[1]).mean()))
            curve.append((size, float(np.mean(tops))))
    return curve


def _find_strength(features: FloatArray, labels: Labels, seed: int) -> float:
    if int(np.bincount(labels).min()) < MIN_SEARCHED or len(labels) > MAX_SEARCHED:
        return DEFAULT_STRENGTH
    search = GridSearchCV(
        _pipeline(DEFAULT_STRENGTH),
        {"logisticregression__C": STRENGTHS},
        scoring="neg_log_loss",
        cv=StratifiedKFold(_FOLDS, shuffle=True, random_state=seed),
        refit=False,
    )
    search.fit(features.astype(np.float64), labels)
    return float(search.best_params_["logisticregression__C"])


def _fit(features: FloatArray, labels: Labels, strength: float) -> LinearClassifier:
    pipeline = _pipeline(strength).fit(features.astype(np.float64), labels)
    scaler, regression = pipeline[0], pipeline[1]
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:
        # Two classes have one logit; half of it against half of its negative is the same.
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scaler.scale_
    return LinearClassifier(weight, bias - weight @ scaler.mean_, strength)


def _pipeline(strength: float) -> Pipeline:
    regression = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
    return make_pipeline(StandardScaler(), regression)
