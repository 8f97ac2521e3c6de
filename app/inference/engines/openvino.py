"""OpenVINO on the CPU; an optional extra, imported on first use."""

import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.inference.engines.base import EngineError, FloatArray
from app.inference.engines.torchscript import engine_name, load_module
from app.packages.package import ModelSource

Converted = Path | tuple[bytes, bytes]
"""A converted model: its ``model.xml``, beside which ``model.bin`` lies, or the bytes of both."""

MAX_COPIES_BYTES = 256_000_000
"""What a model's weights may take, once for each thread, for OpenVINO to compute in it; and what
they may take once more, for images that are alone."""

_COMPILED_FOLDER = "compiled"
"""Beside a converted model: OpenVINO's cache, one file for each form of it."""

ANY_SIZE = -1
"""Of a batch, as OpenVINO writes it."""

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


def drop_compiled(folder: Path) -> None:
    """Drop the compiled code in a folder of a converted model; a load compiles its own anew."""
    for path in (folder / _COMPILED_FOLDER).glob("*.blob"):
        path.unlink(missing_ok=True)


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
    """A converted model, compiled for single images, for batches of any size, or for both.

    Where the size is fixed OpenVINO need not look at the shapes of all layers each time: that
    saves half a millisecond of the 9 that a small network takes. So there is a form for single
    images, and one for batches where there are any; of a model with large weights, only that.

    Args:
        converted: the model. Beside one that is a file, compiled code is kept too; of one that
            is bytes nothing reaches a disk.
        precision: ``float32``, ``bfloat16`` or ``int8``; below float32 the scores move.
        threads: how many inferences run at once.
        max_batch: how many images it is given together at most; where that is 1, the images of
            a batch are computed one by one.
        cores: how many compute an inference together.

    Raises:
        EngineError: OpenVINO is not there, or cannot compile the model.
    """

    device = "cpu"

    def __init__(
        self,
        converted: Converted,
        precision: str,
        threads: int,
        max_batch: int = 1,
        cores: int = 1,
    ) -> None:
        openvino = import_openvino()
        if precision not in _PRECISION_HINTS:
            raise EngineError(f"openvino does not compute in {precision}")
        self.name = engine_name("openvino", precision)
        copies = MAX_COPIES_BYTES // max(1, weight_bytes(converted) * threads)
        has_copies = copies > 0 and cores == 1
        hint = _PRECISION_HINTS[precision]
        form = partial(_Form, openvino, converted, hint, threads, cores, has_copies)
        try:
            self._batches = form(ANY_SIZE) if max_batch > 1 else None
            self._single = self._batches if self._batches and copies < 2 else form(1)
        except Exception as exc:
            raise EngineError("openvino cannot compile the model") from exc

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the model; see Engine.infer."""
        if len(batch) == 1:
            return self._single.infer(batch)
        if self._batches:
            return self._batches.infer(batch)
        return np.concatenate([self._single.infer(image[np.newaxis]) for image in batch])


class _Form:
    """A model compiled for one batch size, once for each thread, or once for all of them.

    OpenVINO's Python hands each inference to a thread of its own and waits for it, except with
    no streams: then the caller computes, which takes 0.3 ms less. Such a model computes one
    batch at a time and on one core, so there is one for each thread, unless their weights were
    too large. One model with as many streams as threads shares the weights. Those threads are
    not pinned: two models of one process would be pinned to the same cores.

    Whoever drops a form must not do so in the moment in which a thread ends that has computed
    with it: OpenVINO then locks a mutex that is gone, and the process dies. A joined thread may
    still be ending. The threads of a server outlive its models.
    """

    def __init__(
        self,
        openvino: Any,
        converted: Converted,
        precision_hint: str,
        threads: int,
        cores: int,
        has_copies: bool,
        size: int,
    ) -> None:
        options = {
            "INFERENCE_PRECISION_HINT": precision_hint,
            "NUM_STREAMS": 0 if has_copies else threads,
            "INFERENCE_NUM_THREADS": 1 if has_copies else threads * cores,
            "ENABLE_CPU_PINNING": False,
        }
        copies, requests = (threads, 1) if has_copies else (1, threads)
        core = openvino.Core()
        model = _read(core, converted, size)
        if isinstance(converted, Path):
            options["CACHE_DIR"] = str(converted.parent / _COMPILED_FOLDER)
        self._models = [core.compile_model(model, "CPU", options) for _ in range(copies)]
        is_fixed = self._models[0].output().partial_shape.is_static
        self._request = partial(_FixedRequest if is_fixed else _AnyRequest, openvino)
        self._idle = [self._request(each) for each in self._models for _ in range(requests)]

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the model on a batch of its size."""
        try:
            request = self._idle.pop()
        except IndexError:
            # More callers than were announced: OpenVINO lets them wait for each other.
            return self._request(self._models[0]).infer(batch)
        try:
            return request.infer(batch)
        finally:
            self._idle.append(request)


class _FixedRequest:
    """An inference of a size that is known, with memory of its own for input and output.

    To copy an image there takes a third of the time in which OpenVINO's Python takes a new
    tensor, and gives one back.
    """

    def __init__(self, openvino: Any, model: Any) -> None:
        self._input = np.zeros(model.input().shape, np.float32)
        self._output = np.zeros(model.output().shape, model.output().element_type.to_dtype())
        self._request = model.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self._input, shared_memory=True))
        self._request.set_output_tensor(openvino.Tensor(self._output, shared_memory=True))

    def infer(self, batch: FloatArray) -> FloatArray:
        np.copyto(self._input, batch)
        # infer() does the same with 30 µs more of Python around it.
        self._request.start_async()
        self._request.wait()
        return self._output.astype(np.float32)


class _AnyRequest:
    """An inference of any size."""

    def __init__(self, openvino: Any, model: Any) -> None:
        # An array instead takes OpenVINO's Python three times as long to hand over.
        self._tensor = openvino.Tensor
        self._request = model.create_infer_request()

    def infer(self, batch: FloatArray) -> FloatArray:
        # The input is read where it lies; the output is copied, as the next call reuses it.
        self._request.set_input_tensor(self._tensor(batch, shared_memory=True))
        self._request.start_async()
        self._request.wait()
        return np.array(self._request.get_output_tensor().data, dtype=np.float32)


def weight_bytes(converted: Converted) -> int:
    """Count the bytes of a converted model's weights."""
    if isinstance(converted, Path):
        weights = converted.with_suffix(".bin")
        return weights.stat().st_size if weights.exists() else 0
    return len(converted[1])


def _read(core: Any, converted: Converted, size: int) -> Any:
    """Give a converted model a batch size."""
    paths_or_bytes = (converted,) if isinstance(converted, Path) else converted
    model = core.read_model(*paths_or_bytes)
    model.reshape([size, *model.input().partial_shape[1:]])
    return model
