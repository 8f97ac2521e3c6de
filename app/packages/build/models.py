"""The sources of a package's eager module."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from app.errors import OperatorError
from app.packages.build.checkpoint import load_checkpoint
from app.packages.build.foreign import import_extra, import_own


@dataclass(frozen=True)
class TorchScriptSource:
    """A TorchScript file, which is used unchanged."""

    path: Path

    def load(self, classes: int) -> torch.nn.Module:
        """Load the file; see Source.

        Raises:
            OperatorError: torch cannot load it.
        """
        try:
            module: torch.nn.Module = torch.jit.load(str(self.path), map_location="cpu")
        except (RuntimeError, ValueError) as exc:
            raise OperatorError(
                f"{self.path} is not a TorchScript file that torch can load; for a state_dict, "
                "use --torchvision or --factory with --checkpoint"
            ) from exc
        return module.eval()


@dataclass(frozen=True)
class TorchvisionSource:
    """An architecture of torchvision with a checkpoint.

    Attributes:
        architecture: such as ``resnet18``.
        checkpoint: the file with the weights.
        checkpoint_key: the key of the weights in it, None to search for them.
    """

    architecture: str
    checkpoint: Path
    checkpoint_key: str | None = None

    def load(self, classes: int) -> torch.nn.Module:
        """Build the network with one output for each class; see Source.

        Raises:
            OperatorError: an unknown architecture, or the checkpoint does not fit.
        """
        models = import_extra("torchvision", "--torchvision").models
        if self.architecture not in models.list_models():
            raise OperatorError(
                f"--torchvision {self.architecture!r} is not a torchvision architecture; "
                "python -c 'import torchvision; print(torchvision.models.list_models())' lists them"
            )
        # These two warn unless told whether to initialise the weights.
        skip = self.architecture in {"googlenet", "inception_v3"}
        options = {"init_weights": False} if skip else {}
        model: torch.nn.Module = models.get_model(
            self.architecture, weights=None, num_classes=classes, **options
        )
        load_checkpoint(model, self.checkpoint, self.checkpoint_key)
        return model.eval()


@dataclass(frozen=True)
class FactorySource:
    """A function of timm or the user that returns the eager module, and a checkpoint.

    Attributes:
        factory: ``module:function``.
        arguments: keyword arguments of the function.
        checkpoint: the file with the weights, None if the function loads them.
        checkpoint_key: the key of the weights in it, None to search for them.
    """

    factory: str
    arguments: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    checkpoint_key: str | None = None

    def load(self, classes: int) -> torch.nn.Module:
        """Call the function and load the checkpoint; see Source.

        Raises:
            OperatorError: there is no such function, it fails or returns no module, or the
                checkpoint does not fit.
        """
        function = self._find()
        try:
            model = function(**self.arguments)
        except Exception as exc:
            raise OperatorError(
                f"--factory {self.factory} failed: {type(exc).__name__}: {exc}"
            ) from exc
        if not isinstance(model, torch.nn.Module):
            raise OperatorError(
                f"--factory {self.factory} returned a {type(model).__name__}, expected an nn.Module"
            )
        if self.checkpoint is not None:
            load_checkpoint(model, self.checkpoint, self.checkpoint_key)
        return model.eval()

    def _find(self) -> Callable[..., Any]:
        module, _, name = self.factory.partition(":")
        function: Any = getattr(import_own(module, "--factory"), name, None) if name else None
        if not callable(function):
            raise OperatorError(
                f"--factory {self.factory!r}: expected module:function, such as timm:create_model"
            )
        return function  # type: ignore[no-any-return]  # callable() narrows Any to no signature


Module = torch.nn.Module
"""An eager module, for type annotations in modules that must not import torch."""

Source = TorchScriptSource | TorchvisionSource | FactorySource
"""Each has ``load(classes)``, which returns the eager module in evaluation mode."""


class TwoClasses(torch.nn.Module):
    """Turns the one output of a binary model into two: ``z`` into the logits ``(0, z)``.

    softmax((0, z)) is (1 - sigmoid(z), sigmoid(z)), so the scores stay the same. A
    probability ``p`` becomes ``(1 - p, p)``.

    Args:
        model: returns (N, 1) or (N,).
        kind: ``logits`` or ``probabilities``.
    """

    def __init__(self, model: torch.nn.Module, kind: str) -> None:
        super().__init__()
        self.model = model
        self.logits = kind == "logits"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute (N, 2)."""
        positive = self.model(images).reshape(-1, 1)
        negative = torch.zeros_like(positive) if self.logits else 1 - positive
        return torch.cat([negative, positive], dim=1)


def fit_outputs(
    model: torch.nn.Module, images: torch.Tensor, classes: int, kind: str
) -> torch.nn.Module:
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
            output = model(images)
    except Exception as exc:
        raise OperatorError(
            f"the model fails on an input of shape {tuple(images.shape)}, made by the "
            f"preprocessing: {type(exc).__name__}: {str(exc).strip().splitlines()[-1]}"
        ) from exc
    if not isinstance(output, torch.Tensor):
        raise OperatorError(
            f"the model returns a {type(output).__name__}, expected one tensor (N, classes); "
            "wrap it in a --factory of your own that returns the tensor"
        )
    shape = tuple(output.shape)
    if classes == 2 and shape in ((len(images), 1), (len(images),)):
        return TwoClasses(model, kind).eval()
    if shape != (len(images), classes):
        raise OperatorError(
            f"the model returns the shape {shape} for {len(images)} images, "
            f"expected {(len(images), classes)}: there are {classes} labels"
        )
    return model
