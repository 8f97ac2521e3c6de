"""ONNX Runtime on the CPU or a CUDA device; an optional extra."""

from app.inference.engines.base import EngineError, FloatArray
from app.packages.onnx_file import read_onnx
from app.packages.onnx_runtime import OnnxRuntimeError, OnnxSession, is_installed
from app.packages.package import Package

__all__ = ["OnnxRuntimeEngine", "is_installed"]


class OnnxRuntimeEngine:
    """One session, which the inference threads share.

    Args:
        package: a package with an ONNX file.
        device: ``cpu`` or ``cuda:N``.
        cores: number of cores that compute one inference together.
        optimise: whether ONNX Runtime may change the graph, which rounds differently.

    Raises:
        EngineError: ONNX Runtime is not installed, or does not support the model or the device.
        PackageError: see read_onnx.
    """

    def __init__(
        self, package: Package, device: str = "cpu", cores: int = 1, optimise: bool = True
    ) -> None:
        self.name = "onnxruntime" if device == "cpu" else "onnxruntime-cuda"
        self.device = device
        _, raw = read_onnx(package.model_source())
        manifest = package.manifest
        try:
            self._session = OnnxSession(
                raw, manifest.input, manifest.output.name, device, cores, optimise
            )
        except OnnxRuntimeError as exc:
            raise EngineError(str(exc)) from exc

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the model; see Engine.infer.

        Raises:
            OnnxRuntimeError: the model fails.
        """
        return self._session.run(batch)
