"""The labelled photos of an optimisation: one half calibrates, the other one is unseen."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.errors import ApiError, OperatorError
from app.evaluation.dataset import Sample, read_image
from app.evaluation.outcomes import Failure
from app.inference.engines.base import FloatArray
from app.inference.preparation import prepare_image
from app.packages.package import Package
from app.reporting.counts import pluralise
from app.system.cpus import usable_cpus

MIN_PHOTOS = 40
"""Of both halves. Even with so many, one photo is 5 points of the top-1."""

MAX_INPUT_BYTES = 4_000_000_000
"""Of all preprocessed photos: 6,600 of 224 x 224 px. Of more, some are taken at random."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Photos:
    """Labelled photos, preprocessed.

    Attributes:
        samples: those that the serving path accepts.
        failures: the others.
        inputs: float32 (photos, C, H, W), in a file without a name, not in memory.
        calibration: indices of the half that calibrates and ranks layers.
        unseen: indices of the half that only measures.
    """

    samples: list[Sample]
    failures: list[Failure]
    inputs: FloatArray
    calibration: Indices
    unseen: Indices


def prepare_photos(package: Package, samples: Sequence[Sample]) -> Photos:
    """Preprocess photos on all cores, and split them so that both halves have all labels.

    If they would take more than MAX_INPUT_BYTES, it is a random but fixed choice of them.

    Raises:
        OperatorError: there are too few photos, or one cannot be read.
    """
    spec = package.manifest.input
    limit = MAX_INPUT_BYTES // (4 * spec.channels * spec.height * spec.width)
    if len(samples) > limit:
        places = np.random.default_rng(0).permutation(len(samples))[:limit]
        samples = [samples[place] for place in sorted(places)]
    shape = (len(samples), spec.channels, spec.height, spec.width)
    # A nameless file: nothing is left behind, however the command ends.
    with tempfile.TemporaryFile() as file:
        inputs = np.memmap(file, np.float32, "w+", shape=shape)

    def prepare(index: int) -> Failure | None:
        try:
            inputs[index] = prepare_image(read_image(samples[index].path), package)[1]
        except ApiError as exc:
            problem = f"{exc.error_code} {exc.error_msg}: {exc.detail}"
            return Failure(samples[index], problem)
        return None

    with ThreadPoolExecutor(usable_cpus()) as pool:
        results = list(pool.map(prepare, range(len(samples))))
    failures = [failure for failure in results if failure]
    kept = [index for index, failure in enumerate(results) if failure is None]
    if len(kept) < MIN_PHOTOS:
        reason = f"; {len(failures)} were rejected, {failures[0].problem}" if failures else ""
        raise OperatorError(
            f"found {pluralise(len(kept), 'photo')}, at least {MIN_PHOTOS} are needed: one half "
            f"calibrates, the other one measures{reason}"
        )
    calibration, unseen = _halves([samples[index] for index in kept], kept)
    return Photos(list(samples), failures, inputs, calibration, unseen)


def _halves(samples: Sequence[Sample], indices: Sequence[int]) -> tuple[Indices, Indices]:
    """Give every second photo of each label to the other half, in a random but fixed order."""
    order = np.random.default_rng(0).permutation(len(samples))
    seen: Counter[tuple[str, ...]] = Counter()
    halves: tuple[list[int], list[int]] = ([], [])
    for place in order:
        labels = samples[place].labels
        halves[seen[labels] % 2].append(indices[place])
        seen[labels] += 1
    calibration, unseen = (np.array(sorted(half), np.int64) for half in halves)
    return calibration, unseen
