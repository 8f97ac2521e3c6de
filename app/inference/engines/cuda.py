"""TorchScript on a CUDA device."""

import threading

import numpy as np
import torch

from app.inference.engines.base import FloatArray
from app.inference.engines.torchscript import DTYPES, convert_module, engine_name, load_module
from app.packages.package import ModelSource


class CudaEngine:
    """A frozen module on one GPU, channels last.

    Every thread has its own stream, so that its copies overlap with another thread's
    computation, and its own pinned memory, which the GPU reads by DMA. With float32, cuDNN's
    convolutions may use TF32, which is torch's default.

    Args:
        source: the TorchScript file, or a sealed one's bytes.
        device: ``cuda:N``.
        precision: ``float32``, ``float16`` or ``bfloat16``; scores change below float32.

    Raises:
        PackageError: see load_module.
    """

    def __init__(self, source: ModelSource, device: str, precision: str) -> None:
        self.name = engine_name("torchscript-cuda", precision)
        self.device = device
        self._dtype = DTYPES[precision]
        module = load_module(source, device)
        module = convert_module(module, precision, torch.channels_last)
        self._module = torch.jit.freeze(module)
        # The weights were copied on the default stream; the threads' streams do not wait for it.
        torch.cuda.synchronize(device)
        self._local = threading.local()

    def infer(self, batch: FloatArray) -> FloatArray:
        """Run the module, in halves if the GPU's memory is too small; see Engine.infer.

        Raises:
            torch.OutOfMemoryError: a single image does not fit.
        """
        try:
            return self._run(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        # Outside the handler, because the exception's traceback keeps the tensors alive.
        torch.cuda.empty_cache()
        middle = len(batch) // 2
        return np.concatenate([self.infer(half) for half in (batch[:middle], batch[middle:])])

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
        """Copy the batch to this thread's pinned memory.

        Copying the output back synchronises the stream, so the next call may overwrite it.
        """
        pinned: torch.Tensor | None = getattr(self._local, "pinned", None)
        if pinned is None or len(pinned) < len(batch) or pinned.shape[1:] != batch.shape[1:]:
            pinned = torch.empty(batch.shape, dtype=torch.float32, pin_memory=True)
            self._local.pinned = pinned
        return pinned[: len(batch)].copy_(torch.from_numpy(batch))
