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
from app.packages.manifest import Manifest
from app.packages.onnx_file import read_onnx
from app.packages.package import ModelSource, Package

ConvertedModel = Path | tuple[bytes, bytes] | Any
"""The path of a ``model.xml`` with ``model.bin`` beside it, the bytes of both, or an
``openvino.Model``."""

MAX_COPIES_BYTES = 256_000_000
"""Maximum size of the weights of one compiled model per thread, all of them together, and of the
additional copy for uncontended requests."""

_CACHE_FOLDER = "compiled"
"""Beside a ``model.xml``: OpenVINO's model cache, one file for each compiled model."""

_DYNAMIC = -1
"""A dynamic batch size in OpenVINO's shapes."""

# In int8 the model itself marks the quantised layers; the others are computed in float32.
_PRECISION_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


def is_installed() -> bool:
    """Whether OpenVINO is installed; does not import it."""
    return find_spec("openvino") is not None


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    ``import openvino`` reports to Google Analytics if the package ``openvino_telemetry`` can be
    imported. Otherwise OpenVINO uses a stub, so this function blocks the import of that package.

    Raises:
        EngineError: OpenVINO is not installed, or does not support this machine.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # makes the import fail
    try:
        import openvino
    except ImportError as exc:
        raise EngineError("openvino is not installed: pip install 'classifyd[openvino]'") from exc
    # The bindings import numpy at the first tensor. Two threads that do so at once deadlock:
    # one holds the GIL, the other a C++ initialisation guard.
    openvino.Tensor(np.zeros(1, np.float32))
    return openvino


def clear_cache(folder: Path) -> None:
    """Delete the compiled models cached beside a converted model; loading compiles it again."""
    for path in (folder / _CACHE_FOLDER).glob("*.blob"):
        path.unlink(missing_ok=True)


def convert(package: Package) -> Any:
    """Convert a package's model to OpenVINO, with float32 (N, channels, height, width) as input.

    Returns:
        An ``openvino.Model``, in memory only, for any batch size unless the manifest says that
        the model takes one image at a time.

    Raises:
        EngineError: OpenVINO is not installed, or does not support an operation.
        PackageError: see load_module and read_onnx.
    """
    spec = package.manifest.input
    source, shape = package.model_source(), (spec.channels, spec.height, spec.width)
    if package.manifest.model.format == "onnx":
        return _convert_onnx(source, package.manifest)
    return _convert_torchscript(source, shape)


def _convert_torchscript(source: ModelSource, input_shape: tuple[int, int, int]) -> Any:
    openvino = import_openvino()
    module = load_module(source)
    try:
        model = openvino.convert_model(module, example_input=torch.zeros(1, *input_shape))
        model.reshape([_DYNAMIC, *input_shape])
    except Exception as exc:
        # OpenVINO raises bare RuntimeError besides its own exceptions.
        raise EngineError("openvino cannot convert the model") from exc
    return model


def _convert_onnx(source: ModelSource, manifest: Manifest) -> Any:
    openvino = import_openvino()
    _, raw = read_onnx(source)
    spec = manifest.input
    try:
        model = openvino.Core().read_model(raw)
        output = model.output(manifest.output.name) if manifest.output.name else model.output(0)
        model = openvino.Model([output], model.get_parameters(), "model")
        prepost = openvino.preprocess.PrePostProcessor(model)
        tensor = prepost.input().tensor().set_element_type(openvino.Type.f32)
        tensor.set_layout(openvino.Layout("NCHW"))
        prepost.input().model().set_layout(openvino.Layout(spec.layout))
        prepost.output().tensor().set_element_type(openvino.Type.f32)
        model = prepost.build()
        model.reshape([spec.batch or _DYNAMIC, spec.channels, spec.height, spec.width])
    except Exception as exc:
        # OpenVINO raises bare RuntimeError besides its own exceptions.
        raise EngineError("openvino cannot convert the model") from exc
    return model


class OpenVinoEngine:
    """A converted model, compiled for single images, for batches of any size, or for both.

    With a static shape OpenVINO need not infer the shapes of all layers on each call, which
    saves 0.5 ms of the 9 ms that a small network takes. A model with large weights has one
    compiled model only: the one for batches if there are any.

    Args:
        converted: the model. A path also gets a cache of compiled models beside it; a model in
            memory is never written to a disk.
        precision: ``float32``, ``bfloat16`` or ``int8``; scores change below float32.
        threads: number of concurrent inferences.
        max_batch: maximum number of images in a batch; with 1, a larger batch is computed image
            by image.
        cores: number of cores that compute one inference together.

    Raises:
        EngineError: OpenVINO is not installed, or cannot compile the model.
    """

    device = "cpu"

    def __init__(
        self,
        converted: ConvertedModel,
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
        compiled = partial(_CompiledModel, openvino, converted, hint, threads, cores, has_copies)
        try:
            self._batches = compiled(_DYNAMIC) if max_batch > 1 else None
            self._single = self._batches if self._batches and copies < 2 else compiled(1)
        except Exception as exc:
            raise EngineError("openvino cannot compile the model") from exc

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the model; see Engine.infer."""
        if len(batch) == 1:
            return self._single.infer(batch)
        if self._batches:
            return self._batches.infer(batch)
        return np.concatenate([self._single.infer(image[np.newaxis]) for image in batch])


class _CompiledModel:
    """A model compiled for one batch size, either once per thread or once for all threads.

    OpenVINO's Python API hands each inference to another thread and waits for it, unless
    NUM_STREAMS is 0: then the caller computes, which is 0.3 ms faster. Such a model computes
    one batch at a time on one core, so each thread gets its own copy. Weights that are too
    large for copies are shared by one model with a stream for each thread. Its threads are not
    pinned, because OpenVINO would pin those of two models to the same cores.

    Do not drop a compiled model while a thread that has used it is exiting, even after
    ``join()``: OpenVINO then locks a destroyed mutex and the process aborts. The threads of a
    server outlive its models.
    """

    def __init__(
        self,
        openvino: Any,
        converted: ConvertedModel,
        precision_hint: str,
        threads: int,
        cores: int,
        has_copies: bool,
        batch_size: int,
    ) -> None:
        options = {
            "INFERENCE_PRECISION_HINT": precision_hint,
            "NUM_STREAMS": 0 if has_copies else threads,
            "INFERENCE_NUM_THREADS": 1 if has_copies else threads * cores,
            "ENABLE_CPU_PINNING": False,
        }
        if isinstance(converted, Path):
            options["CACHE_DIR"] = str(converted.parent / _CACHE_FOLDER)
        copies, requests = (threads, 1) if has_copies else (1, threads)
        core = openvino.Core()
        model = _read_model(core, converted, batch_size)
        self._models = [core.compile_model(model, "CPU", options) for _ in range(copies)]
        is_static = self._models[0].output().partial_shape.is_static
        self._request = partial(_StaticRequest if is_static else _DynamicRequest, openvino)
        self._idle = [self._request(each) for each in self._models for _ in range(requests)]

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the model on a batch of its size."""
        try:
            request = self._idle.pop()
        except IndexError:
            # More callers than threads: OpenVINO queues the additional request.
            return self._request(self._models[0]).infer(batch)
        try:
            return request.infer(batch)
        finally:
            self._idle.append(request)


class _StaticRequest:
    """An inference request of a static shape, with its own memory for input and output.

    Copying an image into it takes a third of the time in which OpenVINO's Python API creates
    and deletes a tensor.
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


class _DynamicRequest:
    """An inference request of a dynamic shape."""

    def __init__(self, openvino: Any, model: Any) -> None:
        # Passing an array instead takes OpenVINO's Python API three times as long.
        self._tensor = openvino.Tensor
        self._request = model.create_infer_request()

    def infer(self, batch: FloatArray) -> FloatArray:
        self._request.set_input_tensor(self._tensor(batch, shared_memory=True))
        self._request.start_async()
        self._request.wait()
        # A copy, because the next call reuses the output's memory.
        return np.array(self._request.get_output_tensor().data, dtype=np.float32)


def weight_bytes(converted: ConvertedModel) -> int:
    """Return the size of a converted model's weights, in bytes."""
    if isinstance(converted, Path):
        weights = converted.with_suffix(".bin")
        return weights.stat().st_size if weights.exists() else 0
    if isinstance(converted, tuple):
        return len(converted[1])
    constants = (node for node in converted.get_ops() if node.get_type_name() == "Constant")
    return sum(int(node.get_byte_size()) for node in constants)


def _read_model(core: Any, converted: ConvertedModel, batch_size: int) -> Any:
    if isinstance(converted, Path):
        model = core.read_model(converted)
    elif isinstance(converted, tuple):
        model = core.read_model(*converted)
    else:
        model = converted.clone()
    model.reshape([batch_size, *model.input().partial_shape[1:]])
    return model
