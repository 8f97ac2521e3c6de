"""How fast an engine is, and how far its scores are from those of plain TorchScript."""

import threading
import time
from collections.abc import Iterator

import numpy as np

from app.imaging.resample import ByteArray
from app.inference.engines.base import Engine, FloatArray
from app.inference.scores import to_scores
from app.packages.package import Package

PROBES = 16
PROBE_SIDE_PX = 512
WARM_UP_CALLS = 3
"""TorchScript's profiling executor is slow on its first two calls at each batch size."""


def probe_batch(package: Package) -> FloatArray:
    """Make inputs for a package that has no known answers.

    They are mosaics of random colours, from a few large tiles to single pixels, taken
    through the package's own steps: every frequency is there, and the values lie where those
    of photos lie.

    Returns:
        float32 (PROBES, C, H, W), the same on every call.
    """
    return np.stack([package.preprocessor(image) for image in _mosaics()])


def _mosaics() -> Iterator[ByteArray]:
    generator = np.random.default_rng(0)
    for index in range(PROBES):
        tiles = 2 ** (index % 9 + 1)
        colours = generator.integers(0, 256, (tiles, tiles, 3), dtype=np.uint8)
        side = PROBE_SIDE_PX // tiles
        yield np.ascontiguousarray(colours.repeat(side, axis=0).repeat(side, axis=1))


def worst_difference(
    package: Package, engine: Engine, inputs: FloatArray, wanted: FloatArray
) -> float:
    """Compare an engine's scores with the wanted ones, image by image and as one batch.

    Args:
        package: says how outputs become scores.
        engine: the candidate.
        inputs: float32 (N, C, H, W).
        wanted: float32 (N, classes), scores.

    Raises:
        InternalError: an output is not finite, or has another shape.
    """
    alone = np.concatenate([engine.infer(image[np.newaxis]) for image in inputs])
    found = [scores_of(package, alone), scores_of(package, engine.infer(inputs))]
    return max(float(np.abs(scores - wanted).max()) for scores in found)


def scores_of(package: Package, outputs: FloatArray) -> FloatArray:
    """Turn raw outputs, float32 (N, classes), into scores."""
    return np.stack([to_scores(output, package.manifest.output) for output in outputs])


def ms_per_image(
    engine: Engine, inputs: FloatArray, batch: int, threads: int, time_s: float
) -> float:
    """Measure an engine as it is used: so many threads, each with its own batches.

    Args:
        engine: the engine, warm at this batch size.
        inputs: float32 (N, C, H, W), N at least ``batch``.
        batch: images computed together.
        threads: how many inferences run at once.
        time_s: how long to measure; every thread computes one batch at least.

    Returns:
        Wall time by image.
    """
    images = np.ascontiguousarray(inputs[:batch])
    counts = [0] * threads
    end = time.monotonic() + time_s

    def work(index: int) -> None:
        while True:
            engine.infer(images)
            counts[index] += batch
            if time.monotonic() >= end:
                return

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    started = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.monotonic() - started) * 1000 / sum(counts)


def warm_up(engine: Engine, inputs: FloatArray, batch: int) -> None:
    """Run a batch size until it is fast."""
    for _ in range(WARM_UP_CALLS):
        engine.infer(np.ascontiguousarray(inputs[:batch]))
