"""Where the arithmetic runs: the GPU if there is one, otherwise each core on its own."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from app.system.cpus import usable_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4


class Device:
    """The GPU or the CPU, and a thread for each core.

    On a CPU each operation has one thread, and the threads work on different photos: that is
    faster on shared cores, and the sums are the same however many cores there are.

    Attributes:
        torch: the device of torch.
        is_gpu: whether it is a GPU.
    """

    def __init__(self, name: str) -> None:
        is_cpu = name == "cpu" or (name == "auto" and not torch.cuda.is_available())
        self.torch = torch.device("cpu" if is_cpu else "cuda" if name == "auto" else name)
        self.is_gpu = self.torch.type == "cuda"
        self.name = torch.cuda.get_device_name(self.torch) if self.is_gpu else "cpu"
        # For torch's deterministic algorithms on a GPU (cuBLAS, "Results reproducibility").
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=self.is_gpu)
        torch.set_num_threads(1)
        self._threads = usable_cpus()
        self._pool = ThreadPoolExecutor(
            self._threads, initializer=torch.set_num_threads, initargs=(1,)
        )

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply work to items on all cores, in order, a few items ahead."""
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(self._pool.submit(work, item))
            if len(pending) > _AHEAD * self._threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def batches(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Cut a sequence into parts of this size; the last one may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]
