"""What runs a model's arithmetic; the engines themselves are in ``app.inference.engines``."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float32]


class EngineError(Exception):
    """An engine cannot run a model: it is not installed, or the model has what it lacks."""


class Engine(Protocol):
    """A loaded model on one device; safe to call from several threads at once.

    Attributes:
        name: the engine, and the precision where it is not float32.
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
    """A model as it is to be used.

    Attributes:
        engine: computes one batch on one core, or on the card.
        max_batch: how many images it should be given together at most.
        latency_engine: the same model for an uncontended image, which all cores of the worker
            compute together; None where nothing is gained by that.
    """

    engine: Engine
    max_batch: int
    latency_engine: Engine | None = None


def use_one_thread_per_operation() -> None:
    """Keep torch from spreading one operation over cores.

    Several inferences at once use the cores better: with threads inside an operation, the
    OpenMP barriers on shared cores cost a factor of 3 to 10.
    """
    torch.set_num_threads(1)


def cuda_count() -> int:
    """Count the CUDA devices that torch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def card_uuid(device: str) -> str:
    """Name the card behind a CUDA device as ``nvidia-smi -L`` does; empty for the CPU.

    Args:
        device: ``cpu`` or ``cuda:N``.
    """
    if device == "cpu":
        return ""
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
