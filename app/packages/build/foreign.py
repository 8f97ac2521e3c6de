"""Importing what only the builder needs: torchvision, timm, PyYAML, the user's own code."""

import importlib
import os
import sys
from functools import cache
from types import ModuleType
from typing import Any

from app.errors import OperatorError


def import_extra(name: str, purpose: str) -> ModuleType:
    """Import a library of the extra ``build``.

    Args:
        name: the module, such as ``timm``.
        purpose: the option that needs it.

    Raises:
        OperatorError: it is not installed.
    """
    try:
        return _import_beside_any_torchvision(name)
    except ImportError as exc:
        raise OperatorError(
            f"{purpose} needs {name}, which cannot be imported; pip install 'classifyd[build]'"
        ) from exc


def import_torchvision(purpose: str) -> ModuleType:
    """Import torchvision, also where its compiled operators do not fit this torch.

    Its wheel is built against a CUDA torch. Beside a CPU torch the import dies because the
    operators are not registered; of these, models and transforms touch only the names of
    two, ``nms`` and ``qnms``, so their schemas are defined, without an implementation.

    Args:
        purpose: the option that needs it.

    Raises:
        OperatorError: it is not installed.
    """
    return import_extra("torchvision", purpose)


def _import_beside_any_torchvision(name: str) -> ModuleType:
    """Import a module that may import torchvision; see import_torchvision."""
    try:
        return importlib.import_module(name)
    except RuntimeError as exc:
        if "torchvision::" not in str(exc):
            raise
    _forget("torchvision")
    _forget(name.partition(".")[0])
    _define_operators()
    return importlib.import_module(name)


def _forget(root: str) -> None:
    """Drop the half-made modules that a failed import leaves behind."""
    for name in [name for name in sys.modules if name.split(".")[0] == root]:
        del sys.modules[name]


def _define_operators() -> None:
    for operator in ("nms", "qnms"):
        _library().define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@cache
def _library() -> Any:
    """The operators last as long as this object, so it is kept."""
    import torch

    return torch.library.Library("torchvision", "FRAGMENT")


def import_own(name: str, purpose: str) -> ModuleType:
    """Import the user's own module, from the current folder as ``python`` would.

    Raises:
        OperatorError: there is no such module, or it fails when it is imported.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return _import_beside_any_torchvision(name)
    except Exception as exc:
        raise OperatorError(
            f"{purpose}: the module {name!r} cannot be imported: {type(exc).__name__}: {exc}"
        ) from exc
