"""ONNX Runtime, of the optional extra ``onnx``, imported on first use."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from app.packages.manifest import InputSpec

FloatArray = npt.NDArray[np.float32]

_CPU_PROVIDER, _CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"

_ERRORS_ONLY = 3


class OnnxRuntimeError(RuntimeError):
    """ONNX Runtime is not installed, or lacks an operator or a device that a model needs."""


def is_installed() -> bool:
    """Whether ONNX Runtime is installed; does not import it."""
    return find_spec("onnxruntime") is not None


def to_model_input(batch: FloatArray, spec: InputSpec) -> Any:
    """Convert float32 (N, C, H, W) to the layout and the dtype of a model's input."""
    if spec.layout == "NHWC":
        batch = batch.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(batch, dtype=spec.dtype)


class OnnxSession:
    """A model in ONNX Runtime, safe to run from several threads at once.

    Each call computes in the calling thread; with several cores also in threads of the session.

    Args:
        raw: the bytes of an ONNX file, from read_onnx.
        spec: of its input.
        output: the name of the output to compute; None for the first.
        device: ``cpu`` or ``cuda:N``.
        cores: number of cores that compute one call together.
        optimise: whether ONNX Runtime may change the graph, which rounds differently.

    Raises:
        OnnxRuntimeError: it is not installed, or cannot run the model on the device.
    """

    def __init__(
        self,
        raw: bytes,
        spec: InputSpec,
        output: str | None,
        device: str = "cpu",
        cores: int = 1,
        optimise: bool = True,
    ) -> None:
        onnxruntime = _import()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = cores
        options.inter_op_num_threads = 1
        # Threads that spin while they wait would take the cores from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        cuda = (_CUDA_PROVIDER, {"device_id": device.removeprefix("cuda:")})
        providers = [_CPU_PROVIDER] if device == "cpu" else [cuda, _CPU_PROVIDER]
        if device != "cpu" and _CUDA_PROVIDER not in onnxruntime.get_available_providers():
            raise OnnxRuntimeError("onnxruntime has no CUDA here: pip install onnxruntime-gpu")
        try:
            self._session = onnxruntime.InferenceSession(raw, options, providers=providers)
        except Exception as exc:
            # ONNX Runtime has a dozen exceptions without a common base of their own.
            raise OnnxRuntimeError(f"onnxruntime cannot load it: {_first_line(exc)}") from exc
        if device != "cpu" and _CUDA_PROVIDER not in self._session.get_providers():
            raise OnnxRuntimeError("onnxruntime cannot use the CUDA device")
        self._spec = spec
        self._input = self._session.get_inputs()[0].name
        self._output = output or self._session.get_outputs()[0].name

    def run(self, batch: FloatArray) -> FloatArray:
        """Compute the output of float32 (N, C, H, W); image by image if the model needs that.

        Raises:
            OnnxRuntimeError: the model fails on it.
        """
        if self._spec.batch == 1 and len(batch) > 1:
            return np.concatenate([self.run(image[np.newaxis]) for image in batch])
        try:
            feed = {self._input: to_model_input(batch, self._spec)}
            return np.asarray(self._session.run([self._output], feed)[0], np.float32)
        except Exception as exc:
            raise OnnxRuntimeError(f"onnxruntime fails on the model: {_first_line(exc)}") from exc


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as exc:
        problem = "onnxruntime is not installed: pip install 'classifyd[onnx]'"
        raise OnnxRuntimeError(problem) from exc
    return onnxruntime


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:200]
