"""TorchScript on a CUDA device."""

import threading
from collections.abc import Callable

import numpy as np
import torch

from app.inference.engines.base import FloatArray
from app.inference.engines.torchscript import DTYPES, convert_module, engine_name, load_module
from app.packages.package import ModelSource


class CudaEngine:
    """A frozen module on one card, channels last.

    Every thread has a stream of its own, so that a copy overlaps with another thread's
    arithmetic, and a piece of pinned memory, from which the card copies by itself. TF32 is
    off unless torch was told otherwise: float32 means float32.

    Args:
        model_path: the TorchScript file, or a sealed one's bytes.
        device: ``cuda:N``.
        precision: ``float32``, ``float16`` or ``bfloat16``; below float32 the scores move.

    Raises:
        PackageError: see load_module.
    """

    def __init__(self, model_path: ModelSource, device: str, precision: str) -> None:
        self.name = engine_name("torchscript-cuda", precision)
        self.device = device
        self._dtype = DTYPES[precision]
        module = load_module(model_path, device)
        module = convert_module(module, precision, torch.channels_last)
        self._module = torch.jit.freeze(module)
        # The weights were copied on the default stream, for which the others do not wait.
        torch.cuda.synchronize(device)
        self._local = threading.local()

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the module, in halves where the card's memory is too small; see Engine.infer."""
        return infer_in_halves(self._run, batch, torch.cuda.empty_cache)

    def _run(self, batch: FloatArray) -> FloatArray:
        stream = self._stream()
        with torch.inference_mode(), torch.cuda.device(self.device), torch.cuda.stream(stream):
            images = self._pinned(batch).to(self.device, non_blocking=True)
            images = images.to(self._dtype, memory_format=torch.channels_last)
            output = self._module(images).float().cpu()
        scores: FloatArray = output.numpy()
        return scores

    def _stream(self) -> torch.cuda.Stream:
        if not hasattr(self._local, "stream"):
            self._local.stream = torch.cuda.Stream(self.device)
        stream: torch.cuda.Stream = self._local.stream
        return stream

    def _pinned(self, batch: FloatArray) -> torch.Tensor:
        """The batch in this thread's pinned memory.

        Copying the output back waits for the stream, so the memory is free again by then.
        """
        held: torch.Tensor | None = getattr(self._local, "pinned", None)
        if held is None or len(held) < len(batch) or held.shape[1:] != batch.shape[1:]:
            held = torch.empty(batch.shape, dtype=torch.float32, pin_memory=True)
            self._local.pinned = held
        return held[: len(batch)].copy_(torch.from_numpy(batch))


def infer_in_halves(
    run: Callable[[FloatArray], FloatArray],
    batch: FloatArray,
    free_memory: Callable[[], None],
) -> FloatArray:
    """Run a batch; when the device's memory is too small for it, run its halves.

    Args:
        run: the model, float32 (N, C, H, W) to float32 (N, classes).
        batch: float32 (N, C, H, W).
        free_memory: gives back what the allocator holds without using it.

    Raises:
        torch.OutOfMemoryError: not even one image fits.
    """
    try:
        return run(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # Outside the handler: the exception holds the frames, and they the tensors, that were
    # too much.
    free_memory()
    middle = len(batch) // 2
    halves = (batch[:middle], batch[middle:])
    return np.concatenate([infer_in_halves(run, half, free_memory) for half in halves])
