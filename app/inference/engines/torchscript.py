"""TorchScript on the CPU."""

import logging
from pathlib import Path

import numpy as np
import torch

from app.errors import PackageError
from app.inference.engines.base import FloatArray
from app.packages.manifest import InputSpec
from app.packages.package import ModelSource
from app.packages.torchscript_file import check_unpacked_size

_log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_module(source: ModelSource, device: str = "cpu") -> torch.jit.ScriptModule:
    """Load a package's module for inference, without optimising it.

    Raises:
        PackageError: the file is not a TorchScript module that torch can load, or see
            check_unpacked_size.
    """
    check_unpacked_size(source)
    try:
        module: torch.jit.ScriptModule = torch.jit.load(source, map_location=device).eval()
    except (RuntimeError, ValueError) as exc:
        raise PackageError(
            str(source) if isinstance(source, Path) else "a sealed model",
            "expected a TorchScript file, torch cannot load it",
        ) from exc
    return module


def convert_module(
    module: torch.jit.ScriptModule, precision: str, memory_format: torch.memory_format
) -> torch.jit.ScriptModule:
    """Convert a module's weights to another precision and memory format."""
    module = module.to(DTYPES[precision])
    return module.to(memory_format=memory_format)  # type: ignore[call-overload,no-any-return]  # torch's types lack it


def engine_name(name: str, precision: str) -> str:
    """Name an engine, and its precision unless that is float32."""
    return name if precision == "float32" else f"{name}-{precision}"


class PlainTorchScript:
    """A module exactly as it was saved: the reference for every other engine.

    Raises:
        PackageError: see load_module.
    """

    name = "torchscript-plain"
    device = "cpu"

    def __init__(self, source: ModelSource) -> None:
        self._module = load_module(source)

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the module; see Engine.infer."""
        with torch.inference_mode():
            scores: FloatArray = self._module(torch.from_numpy(batch)).float().numpy()
        return scores


class TorchScriptEngine:
    """A module frozen and optimised for inference.

    Freezing and ``optimize_for_inference`` fold the batch norms, which halves the time of a
    convolutional network and leaves its scores unchanged.

    The precision is a key of DTYPES; scores change below float32. ``channels_last`` stores
    images as (N, H, W, C), which is faster for some networks and processors.

    Raises:
        PackageError: see load_module.
    """

    device = "cpu"

    def __init__(
        self,
        source: ModelSource,
        spec: InputSpec,
        precision: str = "float32",
        channels_last: bool = False,
    ) -> None:
        name = "torchscript-channels_last" if channels_last else "torchscript"
        self.name = engine_name(name, precision)
        self._dtype = DTYPES[precision]
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        module = load_module(source)
        if precision != "float32" or channels_last:
            module = convert_module(module, precision, self._format)
        self._module = torch.jit.optimize_for_inference(torch.jit.freeze(module))
        # Only a call shows whether the optimised module runs.
        try:
            self.infer(np.zeros((1, spec.channels, spec.height, spec.width), np.float32))
        except RuntimeError:
            # For example, adaptive pooling to a size that does not divide its input's (AlexNet).
            _log.info("the optimised module cannot run, the frozen module is used")
            self._module = torch.jit.freeze(module)

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the module; see Engine.infer."""
        with torch.inference_mode():
            images = torch.from_numpy(batch).to(self._dtype, memory_format=self._format)
            scores: FloatArray = self._module(images).float().numpy()
        return scores
