"""The engines that can meet a requirements, by the name under which a choice is remembered."""

from pathlib import Path

from app.inference.engines import openvino
from app.inference.engines.base import Engine
from app.inference.engines.converted_model import find_converted, write_converted
from app.inference.engines.cuda import CudaEngine
from app.inference.engines.openvino import OpenVinoEngine
from app.inference.engines.quantisation import quantise
from app.inference.engines.torchscript import TorchScriptEngine
from app.inference.tuning.selection import EngineRequirements
from app.packages.package import Package

TORCHSCRIPT = "torchscript"
CHANNELS_LAST = "torchscript-channels_last"
CUDA = "torchscript-cuda"
OPENVINO = "openvino"

CPU_BATCHES = (1, 2, 4, 8)
CUDA_BATCHES = (1, 2, 4, 8, 16, 32)


def candidate_names(requirements: EngineRequirements) -> list[str]:
    """List the candidates, OpenVINO only where it is installed or asked for; maybe none.

    ``int8`` asks for it: no other engine has it.
    """
    if requirements.precision == "int8":
        return [OPENVINO] * (requirements.device == "cpu" and requirements.engine != "torchscript")
    if requirements.device != "cpu":
        return [CUDA]
    torchscript = [TORCHSCRIPT, CHANNELS_LAST] if requirements.engine != "openvino" else []
    wants_openvino = requirements.engine == "openvino" or (
        requirements.engine == "auto" and openvino.is_installed()
    )
    return torchscript + [OPENVINO] * wants_openvino


def batches_of(requirements: EngineRequirements) -> tuple[int, ...]:
    """List the batch sizes to try."""
    return CPU_BATCHES if requirements.device == "cpu" else CUDA_BATCHES


def prepare(name: str, package: Package, requirements: EngineRequirements, folder: Path) -> None:
    """Do once what an engine needs before it can be loaded.

    Raises:
        EngineError: the engine is not there, or cannot take the model.
        OSError: the folder cannot be written.
    """
    if name == OPENVINO:
        spec = package.manifest.input
        shape = (spec.channels, spec.height, spec.width)
        model = openvino.convert(package.model_source(), shape)
        if requirements.precision == "int8":
            model = quantise(model, package)
        write_converted(model, package, folder)


def load(
    name: str, package: Package, requirements: EngineRequirements, folder: Path, max_batch: int
) -> Engine:
    """Load a candidate that was prepared, to be given so many images together at most.

    Raises:
        EngineError: it is not there, or cannot take the model.
        PackageError: the file is not a TorchScript module.
    """
    if name == OPENVINO:
        converted = find_converted(package, folder)
        return OpenVinoEngine(converted, requirements.precision, requirements.threads, max_batch)
    if name == CUDA:
        return CudaEngine(package.model_source(), requirements.device, requirements.precision)
    source, spec = package.model_source(), package.manifest.input
    return TorchScriptEngine(source, spec, requirements.precision, name == CHANNELS_LAST)


def load_latency_engine(
    name: str, package: Package, requirements: EngineRequirements, folder: Path
) -> Engine | None:
    """Load a candidate that was prepared, for an image that has all cores to itself.

    Returns:
        None where no image can be spread over cores: there is one, the weights are too large
        to be held once more, or the engine is torch. That would keep a team of threads for
        each thread that calls it.

    Raises:
        EngineError: it is not there, or cannot take the model.
    """
    if name != OPENVINO or requirements.cores == 1:
        return None
    converted = find_converted(package, folder)
    if openvino.weight_bytes(converted) > openvino.MAX_COPIES_BYTES:
        return None
    return OpenVinoEngine(converted, requirements.precision, 1, cores=requirements.cores)
