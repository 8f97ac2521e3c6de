"""The network whose features are learned from, without its classifier."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from app.errors import OperatorError
from app.packages.build.checkpoint import load_checkpoint, read_checkpoint
from app.packages.build.foreign import import_extra
from app.packages.build.models import Module, call_factory, create_torchvision
from app.packages.build.presets import Steps, preset_from_timm, preset_from_weights_enum
from app.packages.demo import PREPROCESS, load_network, require_wheels

DEMO_BACKBONE = "efficientnet-lite0"
_PROBED_CLASSES = 1000


@dataclass(frozen=True)
class Backbone:
    """A network with an Identity in place of its last linear layer.

    Attributes:
        name: of the architecture.
        network: in evaluation mode; returns the features, float32 (N, width).
        head: name of the replaced layer.
        width: number of features.
        steps: the preprocessing, JSON values of a manifest.
        digest: SHA-256 of the weights.
    """

    name: str
    network: Module
    head: str
    width: int
    steps: Steps
    digest: str

    def with_head(self, head: torch.nn.Linear) -> Module:
        """Copy the network with a classifier on its features."""
        network = copy.deepcopy(self.network)
        _set_layer(network, self.head, head)
        return network.eval()


def load_demo_backbone() -> Backbone:
    """Load EfficientNet-Lite0 of the demo, from its wheels.

    Raises:
        PackageError: a wheel is not installed.
    """
    require_wheels()
    # The whole square: what matters may be at the edge. On ants and bees a linear classifier was
    # right on 96.3 % in cross-validation, and on 95.0 % with the demo's crop of 0.875.
    whole = {"step": "center_crop", "fraction_of_shortest_side": 1.0}
    steps = [whole if step["step"] == "center_crop" else step for step in PREPROCESS]
    return _without_head(DEMO_BACKBONE, load_network(), steps)


def load_torchvision_backbone(architecture: str, checkpoint: Path, key: str | None) -> Backbone:
    """Load an architecture of torchvision, with the transforms of its default weights.

    Raises:
        OperatorError: the architecture is unknown, or the checkpoint does not fit.
    """
    network = _load(partial(create_torchvision, architecture), checkpoint, key)
    models = import_extra("torchvision", "--torchvision", "train").models
    weights = models.get_model_weights(architecture).DEFAULT
    steps = preset_from_weights_enum(str(weights), "fast").steps
    return _without_head(architecture, network, steps)


def load_timm_backbone(architecture: str, checkpoint: Path, key: str | None) -> Backbone:
    """Load an architecture of timm, with its data configuration.

    Raises:
        OperatorError: the architecture is unknown, or the checkpoint does not fit.
    """

    def create(classes: int) -> Module:
        arguments: dict[str, Any] = {"model_name": architecture, "num_classes": classes}
        return call_factory("timm:create_model", arguments)

    network = _load(create, checkpoint, key)
    steps = preset_from_timm("model", network, "fast").steps
    return _without_head(architecture, network, steps)


def _load(create: Callable[[int], Module], checkpoint: Path, key: str | None) -> Module:
    """Create the network with as many classes as its checkpoint has."""
    probe = create(_PROBED_CLASSES)
    weight = f"{_head_of(probe)}.weight"
    state = read_checkpoint(probe, checkpoint, key)
    network = create(state[weight].shape[0])
    load_checkpoint(network, checkpoint, key)
    return network


def _without_head(name: str, network: Module, steps: Steps) -> Backbone:
    head = _head_of(network)
    layer = network.get_submodule(head)
    assert isinstance(layer, torch.nn.Linear)  # noqa: S101 - see _head_of
    digest = _digest(network)
    _set_layer(network, head, torch.nn.Identity())
    return Backbone(name, network.eval(), head, layer.in_features, steps, digest)


def _head_of(network: Module) -> str:
    layers = network.named_modules()
    names = [str(name) for name, layer in layers if isinstance(layer, torch.nn.Linear)]
    if not names:
        raise OperatorError("the architecture does not end with a linear layer; take another one")
    return names[-1]


def _set_layer(network: Module, name: str, layer: Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, layer)


def _digest(network: Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        values: bytes = tensor.cpu().contiguous().numpy().tobytes()
        digest.update(values)
    return digest.hexdigest()
