"""One queue in front of the inference threads of a worker.

A request submits one image and waits. A free inference thread takes the image that has waited
longest, with others for the same model up to the batch size. While nothing waits and a core is
idle, the calling thread computes its image itself: waking another thread on an idle core, and
being woken by it, takes 0.2 ms. All cores together compute an uncontended image, where that was
measured to be faster.
"""

import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from app.errors import InternalError, ModelUnavailable
from app.inference.engines.base import Engine, FloatArray, LoadedEngine
from app.limits.core_gate import CoreGate
from app.limits.fair_semaphore import LATE_DETAIL
from app.reporting.counts import pluralise
from app.system.locks import held_lock
from app.system.priority import lower_priority

HUNG_DETAIL = "an inference hangs, the worker is replaced"


@dataclass(eq=False)
class Job:
    """One image on its way through the queue.

    Attributes:
        loaded: computes it.
        image: float32 (C, H, W), contiguous.
        deadline: time.monotonic() after which it is no longer computed.
        queue_ms: time it waited in the queue, once taken.
        infer_ms: time its batch was computed, once done.
        batch_size: number of images in that batch, once done.
    """

    loaded: LoadedEngine
    image: FloatArray
    deadline: float
    submitted: float = field(default_factory=time.monotonic)
    queue_ms: float = 0.0
    infer_ms: float = 0.0
    batch_size: int = 0
    output: FloatArray | None = None
    failure: BaseException | None = None
    _pending: threading.Lock = field(default_factory=held_lock)

    def finish(self, output: FloatArray | None, failure: BaseException | None = None) -> None:
        """Hand the outcome to the waiting thread; a second outcome is ignored."""
        self.output, self.failure = output, failure
        with contextlib.suppress(RuntimeError):
            self._pending.release()

    def wait(self, timeout_s: float = -1) -> bool:
        """Wait for the outcome and return whether it has come; once, by one thread."""
        return self._pending.acquire(timeout=timeout_s)


class InferenceQueue:
    """Inference threads behind one queue.

    Args:
        threads: Maximum number of inferences that run at once.
        cores: the cores that inferences share with the preparation of images.
        niceness: of the threads; see lower_priority.
    """

    def __init__(self, threads: int, cores: CoreGate | None = None, niceness: int = 0) -> None:
        self._cores = cores or CoreGate(threads)
        self._niceness = niceness
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._hung = False
        self._free = threads
        self._running: dict[int, tuple[float, list[Job]]] = {}
        self._threads = [
            threading.Thread(target=self._serve, name=f"inference-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def infer(
        self,
        loaded: LoadedEngine,
        image: FloatArray,
        deadline: float,
        in_caller: bool = False,
    ) -> Job:
        """Wait for one image's output.

        Args:
            loaded: the model to run.
            image: float32 (C, H, W), contiguous.
            deadline: time.monotonic() after which it is no longer computed.
            in_caller: let the calling thread compute it, on a CPU, when a core is idle.

        Returns:
            The finished job, whose output is float32 (classes,).

        Raises:
            ModelUnavailable: the deadline passed before a thread was free, or the inference
                hangs.
            InternalError: the model failed on this image.
        """
        job = Job(loaded, image, deadline)
        if loaded.engine.device != "cpu":
            return self._infer(job, False)
        self._cores.begin_inference()
        try:
            return self._infer(job, in_caller)
        finally:
            self._cores.end_inference()

    def _infer(self, job: Job, in_caller: bool) -> Job:
        if self._submit(job, in_caller):
            self._run([job])
        elif not job.wait(max(0.0, job.deadline - time.monotonic())):
            self._give_up(job)
            job.wait()
        if isinstance(job.failure, ModelUnavailable):
            raise job.failure
        if job.failure is not None:
            raise InternalError("the model failed on this image") from job.failure
        return job

    def depth(self) -> int:
        """Count the images that wait."""
        return len(self._waiting)

    def longest_run_s(self) -> float:
        """Say for how many seconds the oldest of the running inferences has run."""
        now = time.monotonic()
        return max((now - started for started, _ in list(self._running.values())), default=0.0)

    @property
    def is_hung(self) -> bool:
        """Whether an inference was given up."""
        return self._hung

    def abandon(self) -> None:
        """Fail everything that waits or runs, and accept nothing more."""
        with self._changed:
            self._hung = self._closed = True
            jobs = [*self._waiting, *(job for _, batch in self._running.values() for job in batch)]
            self._waiting.clear()
        for job in jobs:
            job.finish(None, ModelUnavailable(HUNG_DETAIL))

    def close(self) -> None:
        """Answer what waits, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _submit(self, job: Job, may_compute: bool) -> bool:
        """Let a job wait; or say that the calling thread is to compute it, and count it."""
        with self._changed:
            if self._closed:
                raise ModelUnavailable("shutting down")
            if may_compute and self._free and not self._waiting:
                if job.deadline <= time.monotonic():
                    raise ModelUnavailable(LATE_DETAIL)
                self._free -= 1
                return True
            self._waiting.append(job)
            self._changed.notify()
            return False

    def _serve(self) -> None:
        lower_priority(self._niceness)
        while batch := self._take():
            self._run(batch)

    def _run(self, batch: list[Job]) -> None:
        """Compute a batch that was counted as running."""
        ident = threading.get_ident()
        self._running[ident] = (time.monotonic(), batch)
        _compute(self._engine_for(batch), batch)
        del self._running[ident]
        with self._changed:
            self._free += 1
            if self._closed:
                self._changed.notify_all()
            elif self._waiting:
                self._changed.notify()

    def _engine_for(self, batch: list[Job]) -> Engine:
        loaded = batch[0].loaded
        if loaded.latency_engine and self._cores.is_uncontended():
            return loaded.latency_engine
        return loaded.engine

    def _take(self) -> list[Job]:
        """The longest waiting job and its company; empty when closed and drained."""
        with self._changed:
            while True:
                self._drop_late()
                if self._waiting and self._free:
                    self._free -= 1
                    return self._pop_batch(self._waiting[0])
                if self._closed and not self._waiting:
                    return []
                self._changed.wait()

    def _give_up(self, job: Job) -> None:
        """Answer a late job, unless a thread has it already: then its end is near."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.finish(None, ModelUnavailable(LATE_DETAIL))

    def _drop_late(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0].deadline <= now:
            self._waiting.popleft().finish(None, ModelUnavailable(LATE_DETAIL))

    def _pop_batch(self, first: Job) -> list[Job]:
        alike = [job for job in self._waiting if job.loaded is first.loaded]
        batch = alike[: first.loaded.max_batch]
        for job in batch:
            self._waiting.remove(job)
        return batch


def _compute(engine: Engine, batch: list[Job]) -> None:
    """Run a batch; when it fails, run its images one by one so that only the guilty fail."""
    started = time.monotonic()
    try:
        outputs = _run(engine, batch)
    except Exception as exc:
        if len(batch) == 1:
            batch[0].finish(None, exc)
            return
        for job in batch:
            _compute(engine, [job])
        return
    infer_ms = (time.monotonic() - started) * 1000
    for job, output in zip(batch, outputs, strict=True):
        job.queue_ms = (started - job.submitted) * 1000
        job.infer_ms = infer_ms
        job.batch_size = len(batch)
        job.finish(output)


def _run(engine: Engine, batch: list[Job]) -> FloatArray:
    if len(batch) == 1:
        images = batch[0].image[np.newaxis]
    else:
        images = np.stack([job.image for job in batch])
    outputs = engine.infer(images)
    if outputs.shape[0] != len(batch):
        raise ValueError(
            f"{pluralise(len(batch), 'image')} gave an output of shape {outputs.shape}"
        )
    return outputs
