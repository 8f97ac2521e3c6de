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

MAX_COPIES_BYTES = 256_000_000
"""What a model's weights may take, once for each thread, for OpenVINO to compute in it."""

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
    """A converted model, compiled once for each thread, or once for all of them.

    OpenVINO's Python hands each inference to a thread of its own and waits for it, except with
    no streams: then the caller computes, which takes 0.3 ms less. Such a model computes one
    batch at a time, so there is one for each thread, unless their weights were too large. One
    model with as many streams as threads shares the weights. Those threads are not pinned: two
    models of one process would be pinned to the same cores.

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
        has_copies = _weight_bytes(converted) * threads <= MAX_COPIES_BYTES
        options = {
            "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
            "NUM_STREAMS": 0 if has_copies else threads,
            "INFERENCE_NUM_THREADS": 1 if has_copies else threads,
            "ENABLE_CPU_PINNING": False,
        }
        copies, requests = (threads, 1) if has_copies else (1, threads)
        try:
            self._models = [_compile(openvino, converted, options) for _ in range(copies)]
        except Exception as exc:
            raise EngineError("openvino cannot compile the model") from exc
        # An array instead takes OpenVINO's Python three times as long to hand over.
        self._tensor = openvino.Tensor
        self._idle = [each.create_infer_request() for each in self._models for _ in range(requests)]

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the model; see Engine.infer."""
        try:
            request = self._idle.pop()
        except IndexError:
            # More callers than were announced: OpenVINO lets them wait for each other.
            return self._run(self._models[0].create_infer_request(), batch)
        try:
            return self._run(request, batch)
        finally:
            self._idle.append(request)

    def _run(self, request: Any, batch: FloatArray) -> FloatArray:
        # The input is read where it lies; the output is copied, as the next call reuses it.
        # infer() does the same with 30 µs more of Python around it.
        request.set_input_tensor(self._tensor(batch, shared_memory=True))
        request.start_async()
        request.wait()
        return np.array(request.get_output_tensor().data, dtype=np.float32)


def _weight_bytes(converted: Converted) -> int:
    if isinstance(converted, Path):
        weights = converted.with_suffix(".bin")
        return weights.stat().st_size if weights.exists() else 0
    return len(converted[1])


def _compile(openvino: Any, converted: Converted, options: dict[str, Any]) -> Any:
    """Compile for the CPU, with the compiled code kept beside a model that is a file."""
    core = openvino.Core()
    if isinstance(converted, Path):
        kept = {"CACHE_DIR": str(converted.parent / "compiled")}
        return core.compile_model(str(converted), "CPU", options | kept)
    return core.compile_model(core.read_model(*converted), "CPU", options)
