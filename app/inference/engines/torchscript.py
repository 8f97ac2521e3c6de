"""TorchScript on the CPU."""

import logging
from pathlib import Path

import numpy as np
import torch

from app.errors import PackageError
from app.inference.engines.base import FloatArray
from app.packages.manifest import InputSpec
from app.packages.package import ModelSource

_log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_module(model_path: ModelSource, device: str = "cpu") -> torch.jit.ScriptModule:
    """Load a package's module for inference, as it is.

    Raises:
        PackageError: the file is not a TorchScript module that can be loaded.
    """
    try:
        module: torch.jit.ScriptModule = torch.jit.load(model_path, map_location=device).eval()
    except (RuntimeError, ValueError) as exc:
        raise PackageError(
            str(model_path) if isinstance(model_path, Path) else "a sealed model",
            "",
            "expected a TorchScript file, torch cannot load it",
        ) from exc
    return module


def convert_module(
    module: torch.jit.ScriptModule, precision: str, memory_format: torch.memory_format
) -> torch.jit.ScriptModule:
    """Give a module's weights another precision and order in memory."""
    module = module.to(DTYPES[precision])
    return module.to(memory_format=memory_format)  # type: ignore[call-overload,no-any-return]  # torch's types lack it


def engine_name(name: str, precision: str) -> str:
    """Name an engine, and its precision where it is not the exact one."""
    return name if precision == "float32" else f"{name}-{precision}"


class PlainTorchScript:
    """A module exactly as it was saved: the reference that every engine is held against.

    Args:
        model_path: the TorchScript file, or a sealed one's bytes.

    Raises:
        PackageError: see load_module.
    """

    name = "torchscript-plain"
    device = "cpu"

    def __init__(self, model_path: ModelSource) -> None:
        self._module = load_module(model_path)

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the module; see Engine.infer."""
        with torch.inference_mode():
            scores: FloatArray = self._module(torch.from_numpy(batch)).float().numpy()
        return scores


class TorchScriptEngine:
    """A module frozen and optimised for inference.

    Freezing and ``optimize_for_inference`` fold the batch norms and halve the time of a
    convolutional network without a difference in its scores.

    Args:
        model_path: the TorchScript file, or a sealed one's bytes.
        spec: what the model takes, to try out which form can run it.
        precision: a key of DTYPES; below float32 the scores move.
        channels_last: lay images out as (N, H, W, C) in memory, which suits some networks
            and processors better.

    Raises:
        PackageError: see load_module.
    """

    device = "cpu"

    def __init__(
        self,
        model_path: ModelSource,
        spec: InputSpec,
        precision: str = "float32",
        channels_last: bool = False,
    ) -> None:
        name = "torchscript-channels_last" if channels_last else "torchscript"
        self.name = engine_name(name, precision)
        self._dtype = DTYPES[precision]
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        module = load_module(model_path)
        if precision != "float32" or channels_last:
            module = convert_module(module, precision, self._format)
        self._module = torch.jit.optimize_for_inference(torch.jit.freeze(module))
        image = np.zeros((1, spec.channels, spec.height, spec.width), np.float32)
        if not _can_run(self, image):
            # Known: adaptive pooling to a size that does not divide its input's, as in AlexNet.
            _log.info("the optimised form cannot run this model, the frozen one is used")
            self._module = torch.jit.freeze(module)

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the module; see Engine.infer."""
        with torch.inference_mode():
            images = torch.from_numpy(batch).to(self._dtype, memory_format=self._format)
            scores: FloatArray = self._module(images).float().numpy()
        return scores


def _can_run(engine: TorchScriptEngine, image: FloatArray) -> bool:
    """Whether the engine's form of the model runs; what else may fail, fails in the warm-up."""
    try:
        engine.infer(image)
    except RuntimeError:
        return False
    return True
