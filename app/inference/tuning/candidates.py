"""The candidate engines for a package."""

from pathlib import Path

from app.inference.engines import onnxruntime, openvino
from app.inference.engines.base import Engine, EngineError
from app.inference.engines.converted_model import read_converted_model, write_converted_model
from app.inference.engines.cuda import CudaEngine
from app.inference.engines.onnxruntime import OnnxRuntimeEngine
from app.inference.engines.openvino import OpenVinoEngine
from app.inference.engines.plain import load_optimised
from app.inference.engines.quantisation import golden_images, quantise
from app.inference.engines.torchscript import TorchScriptEngine
from app.inference.tuning.selection import EngineRequirements
from app.packages.package import Package

TORCHSCRIPT = "torchscript"
CHANNELS_LAST = "torchscript-channels_last"
CUDA = "torchscript-cuda"
OPENVINO = "openvino"
ONNXRUNTIME = "onnxruntime"
ONNXRUNTIME_CUDA = "onnxruntime-cuda"


class Candidates:
    """Loads the candidates by the names that selections store; the folder is SelectionStore's."""

    def __init__(self, package: Package, requirements: EngineRequirements, folder: Path) -> None:
        self._package = package
        self._requirements = requirements
        self._folder = folder
        self._is_optimised = package.manifest.model.format == "openvino"

    def names(self) -> list[str]:
        """List the candidates, possibly none; an optional engine if it is installed or requested.

        ``int8`` requests OpenVINO, because no other engine supports it, and so does an optimised
        model.
        """
        engine, device = self._requirements.engine, self._requirements.device
        is_onnx = self._package.manifest.model.format == "onnx"
        if self._is_optimised or self._requirements.precision == "int8":
            return [OPENVINO] * (device == "cpu" and engine in {"auto", OPENVINO})
        if device != "cpu":
            return [ONNXRUNTIME_CUDA if is_onnx else CUDA]
        own, is_installed = (
            ([ONNXRUNTIME], onnxruntime.is_installed())
            if is_onnx
            else ([TORCHSCRIPT, CHANNELS_LAST], True)
        )
        has_own = engine == own[0] or (engine == "auto" and is_installed)
        has_openvino = engine == OPENVINO or (engine == "auto" and openvino.is_installed())
        return own * has_own + [OPENVINO] * has_openvino

    def batch_sizes(self) -> tuple[int, ...]:
        """List the batch sizes to measure, in ascending order."""
        if self._package.manifest.input.batch == 1:
            return (1,)
        return (1, 2, 4, 8) if self._requirements.device == "cpu" else (1, 2, 4, 8, 16, 32)

    def prepare(self, name: str) -> None:
        """Convert the model if the engine loads a converted one.

        Raises:
            EngineError: the engine is not installed, or does not support the model.
            OSError: the folder cannot be written.
        """
        if name == OPENVINO and not self._is_optimised:
            model = openvino.convert(self._package)
            if self._requirements.precision == "int8":
                model = quantise(model, golden_images(self._package))
            write_converted_model(model, self._package, self._folder)

    def load(self, name: str, max_batch: int) -> Engine:
        """Load a prepared candidate for batches of up to ``max_batch`` images.

        Raises:
            EngineError: it is not installed, or does not support the model.
            PackageError: the file is not what the manifest says.
        """
        precision, threads = self._requirements.precision, self._requirements.threads
        if self._is_optimised:
            return load_optimised(self._package, threads, max_batch)
        if name in {ONNXRUNTIME, ONNXRUNTIME_CUDA}:
            return self._load_onnxruntime(1)
        if name == OPENVINO:
            converted = read_converted_model(self._package, self._folder)
            return OpenVinoEngine(converted, precision, threads, max_batch)
        source, spec = self._package.model_source(), self._package.manifest.input
        if name == CUDA:
            return CudaEngine(source, self._requirements.device, precision)
        return TorchScriptEngine(source, spec, precision, name == CHANNELS_LAST)

    def load_latency_engine(self, name: str) -> Engine | None:
        """Load a prepared candidate that computes one image on all cores.

        Returns:
            None if there is one core only, the weights are too large for another copy, or the
            engine is torch, which would keep an OpenMP team for each thread that calls it.

        Raises:
            EngineError: it is not installed, or does not support the model.
        """
        cores = self._requirements.cores
        if cores == 1:
            return None
        if name == ONNXRUNTIME:
            is_small = self._package.model_path.stat().st_size <= openvino.MAX_COPIES_BYTES
            return self._load_onnxruntime(cores) if is_small else None
        if name != OPENVINO:
            return None
        if self._is_optimised:
            is_small = self._package.model_path.stat().st_size <= openvino.MAX_COPIES_BYTES
            return load_optimised(self._package, 1, cores=cores) if is_small else None
        converted = read_converted_model(self._package, self._folder)
        if openvino.weight_bytes(converted) > openvino.MAX_COPIES_BYTES:
            return None
        return OpenVinoEngine(converted, self._requirements.precision, 1, cores=cores)

    def _load_onnxruntime(self, cores: int) -> Engine:
        precision, device = self._requirements.precision, self._requirements.device
        if precision != "float32":
            raise EngineError(f"onnxruntime does not compute in {precision}")
        return OnnxRuntimeEngine(self._package, device, cores)
