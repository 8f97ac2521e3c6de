"""The interface of an engine, which runs a model; the implementations are beside this module."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float32]

WARM_UP_CALLS = 3
"""TorchScript's profiling executor is slow on its first two calls at each batch size."""


class EngineError(Exception):
    """An engine cannot run a model: it is not installed, or lacks an operation of the model."""


class Engine(Protocol):
    """A loaded model on one device, safe to call from several threads at once.

    Attributes:
        name: the engine, and the precision unless it is float32.
        device: ``cpu`` or ``cuda:N``.
    """

    name: str
    device: str

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the model.

        Args:
            batch: float32 (N, C, H, W), contiguous, preprocessed as the package says.

        Returns:
            float32 (N, classes), the model's raw output.
        """
        ...


@dataclass(frozen=True)
class LoadedEngine:
    """A model loaded for serving.

    Attributes:
        engine: computes one batch on one core, or on the GPU: the highest throughput.
        max_batch: maximum number of images in a batch.
        latency_engine: computes one image on all cores of the worker, for uncontended
            requests; None where that is not faster.
        batch_tolerance: maximum change of a score by the size of a batch.
    """

    engine: Engine
    max_batch: int
    latency_engine: Engine | None = None
    batch_tolerance: float = 0.0


def warm_up(engine: Engine, batch: FloatArray) -> FloatArray:
    """Run a batch, float32 (N, C, H, W), until it is fast; return its output."""
    for _ in range(WARM_UP_CALLS - 1):
        engine.infer(batch)
    return engine.infer(batch)


def use_one_thread_per_operation() -> None:
    """Keep torch from parallelising one operation.

    Concurrent inferences use the cores better: with threads inside an operation, the OpenMP
    barriers on shared cores cost a factor of 3 to 10.
    """
    torch.set_num_threads(1)


def cuda_count() -> int:
    """Count the CUDA devices that torch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpu_uuid(device: str) -> str:
    """Return the UUID of ``cuda:N`` as ``nvidia-smi -L`` prints it; empty for ``cpu``."""
    if device == "cpu":
        return ""
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
