"""The sources of a package's eager module."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.errors import OperatorError
from app.packages.build.checkpoint import load_checkpoint
from app.packages.build.foreign import import_extra, import_own
from app.packages.build.script import last_line

Module = torch.nn.Module
"""An eager module, for type annotations in modules that must not import torch."""


@dataclass(frozen=True)
class Source:
    """A function that creates the eager module for a number of classes, and its weights.

    Without a checkpoint the function loads them; without a key they are searched for in it.
    """

    create: Callable[[int], Module]
    checkpoint: Path | None = None
    checkpoint_key: str | None = None

    def load(self, classes: int) -> Module:
        """Create the module with its weights, in evaluation mode.

        Raises:
            OperatorError: the module cannot be created, or the checkpoint does not fit.
        """
        model = self.create(classes)
        if self.checkpoint is not None:
            load_checkpoint(model, self.checkpoint, self.checkpoint_key)
        return model.eval()


def read_torchscript(path: Path) -> Module:
    """Load a TorchScript file.

    Raises:
        OperatorError: torch cannot load it.
    """
    try:
        module: Module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as exc:
        raise OperatorError(
            f"{path} is not a TorchScript file that torch can load; for a state_dict, "
            "use --torchvision or --factory with --checkpoint"
        ) from exc
    return module


def create_torchvision(architecture: str, classes: int) -> Module:
    """Create a torchvision architecture, such as ``resnet18``, with one output for each class.

    Raises:
        OperatorError: the architecture is unknown.
    """
    models = import_extra("torchvision", "--torchvision").models
    if architecture not in models.list_models():
        raise OperatorError(
            f"--torchvision {architecture!r} is not a torchvision architecture; "
            "python -c 'import torchvision; print(torchvision.models.list_models())' lists them"
        )
    # These two warn unless told whether to initialise the weights.
    options = {"init_weights": False} if architecture in {"googlenet", "inception_v3"} else {}
    model: Module = models.get_model(architecture, weights=None, num_classes=classes, **options)
    return model


def call_factory(factory: str, arguments: dict[str, Any]) -> Module:
    """Call a ``module:function`` of timm or the user that returns the eager module.

    Raises:
        OperatorError: there is no such function, or it fails or returns no module.
    """
    module, _, name = factory.partition(":")
    function: Any = getattr(import_own(module, "--factory"), name, None) if name else None
    if not callable(function):
        raise OperatorError(
            f"--factory {factory!r}: expected module:function, such as timm:create_model"
        )
    try:
        model = function(**arguments)
    except Exception as exc:
        raise OperatorError(f"--factory {factory} failed: {type(exc).__name__}: {exc}") from exc
    if not isinstance(model, Module):
        raise OperatorError(
            f"--factory {factory} returned a {type(model).__name__}, expected an nn.Module"
        )
    return model


class TwoClasses(Module):
    """Turns the one output of a binary model into two: ``z`` into the logits ``(0, z)``.

    softmax((0, z)) is (1 - sigmoid(z), sigmoid(z)), so the scores stay the same. A
    probability ``p`` becomes ``(1 - p, p)``. The binary model returns (N, 1) or (N,).
    """

    def __init__(self, model: Module, kind: str) -> None:
        super().__init__()
        self.model = model
        self.logits = kind == "logits"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute (N, 2)."""
        positive = self.model(images).reshape(-1, 1)
        negative = torch.zeros_like(positive) if self.logits else 1 - positive
        return torch.cat([negative, positive], dim=1)


def fit_outputs(model: Module, images: torch.Tensor, classes: int, kind: str) -> Module:
    """Check the model's output on real input, and add the second class of a binary model.

    Args:
        model: the eager module.
        images: float32 (N, C, H, W), preprocessed.
        classes: the number of labels.
        kind: ``logits`` or ``probabilities``.

    Raises:
        OperatorError: the model fails on the input, or returns no tensor (N, classes).
    """
    try:
        with torch.inference_mode():
            output = model(images[:1])
    except Exception as exc:
        raise OperatorError(
            f"the model fails on an input of shape {tuple(images[:1].shape)}, made by the "
            f"preprocessing: {type(exc).__name__}: {last_line(exc)}"
        ) from exc
    if not isinstance(output, torch.Tensor):
        raise OperatorError(
            f"the model returns a {type(output).__name__}, expected one tensor (N, classes); "
            "wrap it in a --factory of your own that returns the tensor"
        )
    shape = tuple(output.shape)
    if classes == 2 and shape in ((1, 1), (1,)):
        return TwoClasses(model, kind).eval()
    if shape != (1, classes):
        raise OperatorError(
            f"the model returns the shape {shape} for 1 image, "
            f"expected {(1, classes)}: there are {classes} labels"
        )
    return model
