"""Imports that only the builder needs: torchvision, timm, PyYAML, the user's own code."""

import importlib
import os
import sys
from functools import cache
from types import ModuleType
from typing import Any

from app.errors import OperatorError


def import_extra(name: str, purpose: str, extra: str = "build") -> ModuleType:
    """Import a library of an extra; the purpose is the option or command that needs it.

    Raises:
        OperatorError: it is not installed.
    """
    try:
        return _import_with_any_torchvision(name)
    except ImportError as exc:
        raise OperatorError(
            f"{purpose} needs {name}, which cannot be imported; pip install 'classifyd[{extra}]'"
        ) from exc


def import_own(name: str, purpose: str) -> ModuleType:
    """Import the user's own module, from the current folder as ``python`` would.

    Raises:
        OperatorError: there is no such module, or importing it fails.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return _import_with_any_torchvision(name)
    except Exception as exc:
        raise OperatorError(
            f"{purpose}: the module {name!r} cannot be imported: {type(exc).__name__}: {exc}"
        ) from exc


def _import_with_any_torchvision(name: str) -> ModuleType:
    """Import a module that may import a torchvision built for another torch.

    Torchvision's wheel is built against a CUDA torch. With a CPU torch the import fails, as
    its operators are not registered. Models and transforms need only the names of two of
    them, so their schemas are defined without an implementation.
    """
    try:
        return importlib.import_module(name)
    except RuntimeError as exc:
        if "torchvision::" not in str(exc):
            raise
    # The failed import leaves incomplete modules behind.
    roots = {"torchvision", name.partition(".")[0]}
    for module in [module for module in sys.modules if module.split(".")[0] in roots]:
        del sys.modules[module]
    for operator in ("nms", "qnms"):
        _library().define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module(name)


@cache
def _library() -> Any:
    """Cached, because the operators disappear with this object."""
    import torch

    return torch.library.Library("torchvision", "FRAGMENT")
