"""The engines that need no measurement, for each format of a model."""

from app.errors import PackageError
from app.inference.engines import onnxruntime, openvino
from app.inference.engines.base import Engine, EngineError
from app.inference.engines.onnxruntime import OnnxRuntimeEngine
from app.inference.engines.openvino import OpenVinoEngine
from app.inference.engines.torchscript import PlainTorchScript, TorchScriptEngine
from app.packages.package import Package


def load_reference(package: Package) -> Engine:
    """Load a model exactly as it was saved: the reference for every other engine.

    That is TorchScript without optimisation; for ONNX, ONNX Runtime without optimisation, or
    OpenVINO where ONNX Runtime is not installed.

    Raises:
        PackageError: the model cannot be loaded.
    """
    if package.manifest.model.format == "torchscript":
        return PlainTorchScript(package.model_source())
    return _load_onnx(package, optimise=False)


def load_default(package: Package) -> Engine:
    """Load a model with the engine of its format on the CPU, in float32.

    Raises:
        PackageError: the model cannot be loaded.
    """
    if package.manifest.model.format == "torchscript":
        return TorchScriptEngine(package.model_source(), package.manifest.input)
    return _load_onnx(package, optimise=True)


def _load_onnx(package: Package, optimise: bool) -> Engine:
    try:
        if onnxruntime.is_installed() or not openvino.is_installed():
            return OnnxRuntimeEngine(package, optimise=optimise)
        return OpenVinoEngine(openvino.convert(package), "float32", 1)
    except EngineError as exc:
        raise PackageError(package.model_path, str(exc), field="model") from exc
