"""The sources of a package's eager module."""

import logging
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.errors import OperatorError
from app.packages.build.checkpoint import (
    foreign_types,
    is_torchscript,
    load_checkpoint,
    ultralytics_export,
)
from app.packages.build.foreign import import_extra, import_own
from app.packages.build.formats import refuse_other_format
from app.packages.build.script import torch_reason
from app.packages.torchscript_file import check_unpacked_size

logger = logging.getLogger(__name__)

Module = torch.nn.Module
"""An eager module, for type annotations in modules that must not import torch."""


@dataclass(frozen=True)
class Source:
    """A function that creates the eager module for a number of classes, and its weights.

    Without a checkpoint the function loads them; without a key and a prefix they are searched for
    in it.
    """

    create: Callable[[int], Module]
    checkpoint: Path | None = None
    checkpoint_key: str | None = None
    checkpoint_prefix: str | None = None

    def load(self, classes: int) -> Module:
        """Create the module with its weights, in evaluation mode.

        Raises:
            OperatorError: the module cannot be created, or the checkpoint does not fit.
        """
        model = self.create(classes)
        if self.checkpoint is not None:
            load_checkpoint(model, self.checkpoint, self.checkpoint_key, self.checkpoint_prefix)
        return model.eval()


def read_torchscript(path: Path, option: str = "--torchscript") -> Module:
    """Load a TorchScript file; weights of half precision become float32.

    Raises:
        OperatorError: torch cannot load it, it computes on a GPU only, or see
            check_unpacked_size and refuse_other_format.
    """
    refuse_other_format(path, option, ".torchscript")
    check_unpacked_size(path)
    if not is_torchscript(path):
        raise OperatorError(f"{option} {path} is not a TorchScript file: {_instead(path)}")
    try:
        module: Module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as exc:
        raise OperatorError(f"torch cannot load {path}: {torch_reason(exc)}") from exc
    if device := _fixed_device(path):
        raise OperatorError(
            f"{path} computes on {device}, wherever it is loaded: trace it again after "
            "model.cpu(), with example inputs on the CPU"
        )
    halves = {tensor.dtype for tensor in module.state_dict().values()}
    if halves & {torch.float16, torch.bfloat16}:
        logger.warning("%s: converted half precision to float32", path)
        module.float()
    return module


def _instead(path: Path) -> str:
    """What to do with a file of torch.save, or another."""
    types = foreign_types(path)
    if any(name.startswith("ultralytics.") for name in types):
        return ultralytics_export(path)
    return (
        "torch.jit.save writes such a file; for a state_dict, use --torchvision or --factory with "
        "--checkpoint"
    )


def _fixed_device(path: Path) -> str:
    """The GPU that is written into the code of a TorchScript file; empty if there is none."""
    with zipfile.ZipFile(path) as archive:
        sources = (archive.read(name) for name in archive.namelist() if name.endswith(".py"))
        found = (re.search(rb'torch\.device\("((?:cuda|mps|xpu)[:0-9]*)"\)', s) for s in sources)
        return next((match[1].decode() for match in found if match), "")


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
