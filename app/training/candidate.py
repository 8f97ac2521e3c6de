"""A trained network with its calibrated scores on the held-out photos."""

import copy
from dataclasses import dataclass

import torch
from scipy.special import softmax

from app.inference.engines.base import FloatArray
from app.packages.build.models import Module
from app.training.backbone import Backbone
from app.training.calibration import (
    Labels,
    Logits,
    calibration_error,
    fit_temperature,
    log_loss,
)


@dataclass(frozen=True)
class Candidate:
    """What could be packaged.

    Attributes:
        method: ``linear`` or ``fine-tuned``.
        network: with its classifier, on the CPU, before the temperature.
        logits: of the held-out photos, before the temperature, float64 (photos, classes).
        labels: their class indices.
        temperature: by which the logits are divided.
    """

    method: str
    network: Module
    logits: Logits
    labels: Labels
    temperature: float

    @property
    def scores(self) -> FloatArray:
        """The calibrated scores of the held-out photos, float32 (photos, classes)."""
        found: FloatArray = softmax(self.logits / self.temperature, axis=1).astype("float32")
        return found

    @property
    def right(self) -> int:
        """The number of held-out photos that are right."""
        return int((self.logits.argmax(axis=1) == self.labels).sum())

    @property
    def loss(self) -> float:
        """The log loss of the calibrated scores."""
        return log_loss(self.logits / self.temperature, self.labels)

    @property
    def errors(self) -> tuple[float, float]:
        """The expected calibration error before and after the temperature."""
        after = calibration_error(self.logits / self.temperature, self.labels)
        return calibration_error(self.logits, self.labels), after

    def calibrated_network(self, backbone: Backbone) -> Module:
        """Copy the network with the temperature in its last layer, which divides the logits."""
        network = copy.deepcopy(self.network).requires_grad_(False)
        head = network.get_submodule(backbone.head)
        assert isinstance(head, torch.nn.Linear)  # noqa: S101 - see Backbone
        head.weight.div_(self.temperature)
        head.bias.div_(self.temperature)
        return network


def make_candidate(method: str, network: Module, logits: Logits, labels: Labels) -> Candidate:
    """Fit the temperature of a network."""
    return Candidate(method, network.cpu(), logits, labels, fit_temperature(logits, labels))
