"""What runs a model's arithmetic."""

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from app.errors import PackageError

FloatArray = npt.NDArray[np.float32]


class Engine(Protocol):
    """A loaded model on one device; safe to call from several threads at once."""

    name: str
    device: str

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the model.

        Args:
            batch: float32 (N, C, H, W), preprocessed as the package says.

        Returns:
            float32 (N, classes), the model's raw output.
        """
        ...


class TorchScriptEngine:
    """A TorchScript module, frozen and optimised for inference.

    Freezing and ``optimize_for_inference`` fold the batch norms and halve the time of a
    convolutional network without a difference in its scores.

    Args:
        model_path: the TorchScript file.
        device: ``cpu`` or ``cuda:N``.

    Raises:
        PackageError: the file is not a TorchScript module that can be loaded.
    """

    name = "torchscript"

    def __init__(self, model_path: Path, device: str) -> None:
        self.device = device
        try:
            module = torch.jit.load(str(model_path), map_location=device).eval()
        except (RuntimeError, ValueError) as exc:
            raise PackageError(
                str(model_path), "", "expected a TorchScript file, torch cannot load it"
            ) from exc
        self._module = torch.jit.optimize_for_inference(torch.jit.freeze(module))

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the module; see Engine.infer."""
        with torch.inference_mode():
            output = self._module(torch.from_numpy(batch).to(self.device))
        scores: FloatArray = output.float().cpu().numpy()
        return scores


def use_one_thread_per_operation() -> None:
    """Keep torch from spreading one operation over cores.

    Several inferences at once use the cores better: with threads inside an operation, the
    OpenMP barriers on shared cores cost a factor of 3 to 10.
    """
    torch.set_num_threads(1)


def cuda_count() -> int:
    """Count the CUDA devices that torch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
