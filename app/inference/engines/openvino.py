"""OpenVINO on the CPU; an optional extra, imported on first use."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.inference.engine import EngineError, FloatArray
from app.inference.engines.torchscript import engine_name, load_module
from app.packages.package import ModelSource

Converted = Path | tuple[bytes, bytes]
"""A converted model: its ``model.xml``, beside which ``model.bin`` lies, or the bytes of both."""

# In int8 the layers that were quantised say so themselves, the others stay exact.
_PRECISION_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


def is_installed() -> bool:
    """Whether OpenVINO is there, without importing it."""
    return find_spec("openvino") is not None


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    ``import openvino`` alone reports to Google Analytics when the package
    ``openvino_telemetry`` can be imported. Where it cannot, OpenVINO uses a stub of its own,
    so this process is made one where it cannot.

    Raises:
        EngineError: OpenVINO is not installed, or not for this machine.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # Python's own way to say absent
    try:
        import openvino
    except ImportError as exc:
        raise EngineError("openvino is not installed: pip install 'classifyd[openvino]'") from exc
    # Its bindings look numpy up at their first tensor, and two threads that do so at once
    # wait for each other for ever: one holds the interpreter's lock, one a C++ guard.
    openvino.Tensor(np.zeros(1, np.float32))
    return openvino


def convert(source: ModelSource, input_shape: tuple[int, int, int]) -> Any:
    """Turn TorchScript into OpenVINO's own form, in float32 and for any batch size.

    Args:
        source: the TorchScript file, or a sealed one's bytes.
        input_shape: channels, height and width of an image.

    Returns:
        An ``openvino.Model``, in memory alone.

    Raises:
        EngineError: OpenVINO is not there, or knows no such operation.
    """
    openvino = import_openvino()
    module = load_module(source)
    try:
        model = openvino.convert_model(module, example_input=torch.zeros(1, *input_shape))
        model.reshape([-1, *input_shape])
    except Exception as exc:
        # OpenVINO raises bare RuntimeError and its own kinds, with many lines of text.
        raise EngineError("openvino cannot convert the model") from exc
    return model


class OpenVinoEngine:
    """A converted model, compiled once for all threads.

    One compiled model with as many streams as threads shares the weights. Its threads are
    not pinned: two compiled models of one process would be pinned to the same cores.

    Args:
        converted: the model. Beside one that is a file, compiled code is kept too; of one that
            is bytes nothing reaches a disk.
        precision: ``float32``, ``bfloat16`` or ``int8``; below float32 the scores move.
        threads: how many inferences run at once.

    Raises:
        EngineError: OpenVINO is not there, or cannot compile the model.
    """

    device = "cpu"

    def __init__(self, converted: Converted, precision: str, threads: int) -> None:
        openvino = import_openvino()
        if precision not in _PRECISION_HINTS:
            raise EngineError(f"openvino does not compute in {precision}")
        self.name = engine_name("openvino", precision)
        options = {
            "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        core = openvino.Core()
        try:
            if isinstance(converted, Path):
                options["CACHE_DIR"] = str(converted.parent / "compiled")
                self._compiled = core.compile_model(str(converted), "CPU", options)
            else:
                self._compiled = core.compile_model(core.read_model(*converted), "CPU", options)
        except Exception as exc:
            raise EngineError("openvino cannot compile the model") from exc
        # An array instead takes OpenVINO's Python three times as long to hand over.
        self._tensor = openvino.Tensor
        # As many as inferences run at once, not one for each of a hundred request threads.
        self._requests: list[Any] = []

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the model; see Engine.infer."""
        try:
            request = self._requests.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        # The input is read where it lies; the output is copied, as the next call reuses it.
        results = request.infer(self._tensor(batch, shared_memory=True))
        self._requests.append(request)
        scores: FloatArray = np.asarray(results[0], dtype=np.float32)
        return scores
