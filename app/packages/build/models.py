"""Where the eager module of a package comes from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from app.errors import OperatorError
from app.packages.build.checkpoint import load_checkpoint
from app.packages.build.foreign import import_own, import_torchvision


@dataclass(frozen=True)
class TorchScriptSource:
    """A TorchScript file, which is taken as it is."""

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
                f"{self.path} is not a TorchScript file that torch can load; of a state_dict, "
                "use --torchvision or --factory with --checkpoint"
            ) from exc
        return module.eval()


@dataclass(frozen=True)
class TorchvisionSource:
    """An architecture of torchvision with a checkpoint.

    Attributes:
        architecture: such as ``resnet18``.
        checkpoint: the weights.
        checkpoint_key: where in the file they lie, or None.
    """

    architecture: str
    checkpoint: Path
    checkpoint_key: str | None = None

    def load(self, classes: int) -> torch.nn.Module:
        """Make the network with as many outputs as there are classes; see Source.

        Raises:
            OperatorError: an unknown architecture, or the checkpoint does not fit.
        """
        models = import_torchvision("--torchvision").models
        if self.architecture not in models.list_models():
            raise OperatorError(
                f"--torchvision {self.architecture!r} is no architecture of torchvision; "
                "python -c 'import torchvision; print(torchvision.models.list_models())' lists them"
            )
        options = (
            {"init_weights": False} if self.architecture in {"googlenet", "inception_v3"} else {}
        )
        model: torch.nn.Module = models.get_model(
            self.architecture, weights=None, num_classes=classes, **options
        )
        load_checkpoint(model, self.checkpoint, self.checkpoint_key)
        return model.eval()


@dataclass(frozen=True)
class FactorySource:
    """A function that returns the eager module, timm's or the user's own, and a checkpoint.

    Attributes:
        factory: ``module:function``.
        arguments: what the function is called with.
        checkpoint: the weights, or None when the function loads them itself.
        checkpoint_key: where in the file they lie, or None.
    """

    factory: str
    arguments: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    checkpoint_key: str | None = None

    def load(self, classes: int) -> torch.nn.Module:
        """Call the function and load the checkpoint; see Source.

        Raises:
            OperatorError: there is no such function, it fails or gives no module, or the
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
                f"--factory {self.factory} gave a {type(model).__name__}, expected an nn.Module"
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
"""An eager module, for those who name the type without torch."""

Source = TorchScriptSource | TorchvisionSource | FactorySource
"""Each has ``load(classes)``, which gives the eager module in evaluation mode."""


class TwoClasses(torch.nn.Module):
    """One output as two: a binary model's ``z`` becomes the logits ``(0, z)``.

    softmax((0, z)) is (1 - sigmoid(z), sigmoid(z)), so nothing changes but the form. A
    probability ``p`` becomes ``(1 - p, p)``.

    Args:
        model: gives (N, 1) or (N,).
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
    """Check the model's output on real input, and give a binary model its second class.

    Args:
        model: the eager module.
        images: float32 (N, C, H, W), preprocessed.
        classes: the number of labels.
        kind: ``logits`` or ``probabilities``.

    Raises:
        OperatorError: the model fails on the input, or gives no tensor (N, classes).
    """
    try:
        with torch.inference_mode():
            output = model(images)
    except Exception as exc:
        raise OperatorError(
            f"the model fails on an input of shape {tuple(images.shape)}, which the preprocessing "
            f"makes: {type(exc).__name__}: {str(exc).strip().splitlines()[-1]}"
        ) from exc
    if not isinstance(output, torch.Tensor):
        raise OperatorError(
            f"the model gives a {type(output).__name__}, expected one tensor (N, classes); "
            "wrap it in a --factory of your own that returns the tensor"
        )
    shape = tuple(output.shape)
    if classes == 2 and shape in ((len(images), 1), (len(images),)):
        return TwoClasses(model, kind).eval()
    if shape != (len(images), classes):
        raise OperatorError(
            f"the model gives the shape {shape} for {len(images)} images, "
            f"expected {(len(images), classes)}: there are {classes} labels"
        )
    return model
