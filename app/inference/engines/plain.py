"""The engines that need no measurement, for each format of a model."""

from app.errors import PackageError
from app.inference.engines import onnxruntime, openvino
from app.inference.engines.base import Engine, EngineError
from app.inference.engines.onnxruntime import OnnxRuntimeEngine
from app.inference.engines.openvino import OpenVinoEngine
from app.inference.engines.torchscript import PlainTorchScript, TorchScriptEngine
from app.packages.openvino_file import read_openvino_file
from app.packages.package import Package
from app.system.cpus import usable_cpus


def load_reference(package: Package) -> Engine:
    """Load a model exactly as it was saved: the reference for every other engine.

    That is TorchScript without optimisation; for ONNX, ONNX Runtime without optimisation, or
    OpenVINO where ONNX Runtime is not installed. An optimised model is its own reference: it has
    no other form.

    Raises:
        PackageError: the model cannot be loaded.
    """
    if package.manifest.model.format == "torchscript":
        return PlainTorchScript(package.model_source())
    if package.manifest.model.format == "openvino":
        return load_default(package)
    return _load_onnx(package, optimise=False)


def load_default(package: Package) -> Engine:
    """Load a model with the engine of its format on the CPU.

    It computes in float32, an optimised model in its own precision.

    Raises:
        PackageError: the model cannot be loaded.
    """
    if package.manifest.model.format == "torchscript":
        return TorchScriptEngine(package.model_source(), package.manifest.input)
    if package.manifest.model.format == "openvino":
        try:
            return load_optimised(package, usable_cpus())
        except EngineError as exc:
            raise PackageError(package.folder, str(exc), field="model.format") from exc
    return _load_onnx(package, optimise=True)


def load_optimised(
    package: Package, threads: int, max_batch: int = 1, cores: int = 1
) -> OpenVinoEngine:
    """Load a model of the format ``openvino`` in its own precision; see OpenVinoEngine.

    Raises:
        EngineError: OpenVINO is not installed, or cannot compile the model.
        PackageError: the file is not a model of OpenVINO.
    """
    converted = read_openvino_file(package.model_source())
    precision = package.manifest.model.precision
    return OpenVinoEngine(converted, precision, threads, max_batch, cores)


def _load_onnx(package: Package, optimise: bool) -> Engine:
    try:
        if onnxruntime.is_installed() or not openvino.is_installed():
            return OnnxRuntimeEngine(package, optimise=optimise)
        return OpenVinoEngine(openvino.convert(package), "float32", 1)
    except EngineError as exc:
        raise PackageError(package.model_path, str(exc), field="model") from exc
