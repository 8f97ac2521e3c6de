"""The comparison of the engines that can serve a package: how exact and how fast each is."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np

from app.errors import InternalError, PackageError
from app.inference.batch_check import BatchCheck
from app.inference.engines.base import (
    Engine,
    EngineError,
    FloatArray,
    use_one_thread_per_operation,
    warm_up,
)
from app.inference.engines.plain import load_reference
from app.inference.golden.check import check_golden
from app.inference.tuning.candidates import Candidates
from app.inference.tuning.reference import Reference
from app.inference.tuning.selection import (
    EngineRequirements,
    EngineSelection,
    LatencyMeasurement,
    Measurement,
)
from app.packages.package import Package

ROUND_S = 0.2
ROUNDS = 3
"""Candidates take turns, so that other load on the machine affects all of them, and the best
round of each counts."""

PRUNE_RATIO = 1.5
"""A candidate that takes this many times longer for single images than the fastest one is not
measured with larger batches."""

MAX_TIME_RATIO = 0.95
"""Larger batches make requests wait for each other, and another compiled model takes memory:
both must be 5 % faster to be selected."""

Progress = Callable[[str], None]
"""Receives a description of each stage."""


def select_engine(
    package: Package, requirements: EngineRequirements, folder: Path, progress: Progress
) -> EngineSelection:
    """Check and time every candidate, and select one; the folder is SelectionStore's.

    Raises:
        PackageError: no candidate can serve the package.
        OSError: the folder cannot be written.
    """
    use_one_thread_per_operation()
    candidates = Candidates(package, requirements, folder)
    if not candidates.names():
        raise PackageError(
            package.folder,
            _describe_no_candidate(package, requirements),
        )
    reference = Reference(package, requirements.tolerance)
    return _Comparison(package, requirements, candidates, progress, reference).select()


def _describe_no_candidate(package: Package, requirements: EngineRequirements) -> str:
    where = f"with engine = {requirements.engine} on {requirements.device}"
    if package.manifest.model.format == "openvino":
        return (
            f"it is optimised for OpenVINO on a CPU and cannot be computed {where}; set device = "
            "cpu and engine = auto, or activate the version that it was made from"
        )
    return (
        f"no engine computes {requirements.precision} {where}; set device = cpu and engine = auto, "
        "or precision = float32"
    )


@dataclass(frozen=True)
class _Comparison:
    package: Package
    requirements: EngineRequirements
    candidates: Candidates
    progress: Progress
    reference: Reference
    engines: dict[str, Engine] = field(default_factory=dict)

    def select(self) -> EngineSelection:
        checked = [self._check(name) for name in self.candidates.names()]
        refused = [row for row in checked if row.problem]
        if not self.engines:
            # If even the reference fails the golden samples, this names the likely cause.
            check_golden(self.package, load_reference(self.package))
            problems = "; ".join(f"{row.engine}: {row.problem}" for row in refused)
            raise PackageError(self.package.folder, f"no engine can serve it: {problems}")
        measured = self._time([row for row in checked if not row.problem])
        usable = [row for row in measured if not row.problem]
        best_ms = min(row.ms for row in usable)
        selected = min(
            (row for row in usable if row.ms * MAX_TIME_RATIO <= best_ms),
            key=lambda row: (row.batch, row.ms),
        )
        self.progress("measuring the latency of an uncontended image")
        latency = self._time_latency(selected.engine)
        return EngineSelection(selected.engine, selected.batch, latency, (*measured, *refused))

    def _check(self, name: str) -> Measurement:
        """Load a candidate and compare its scores; a row without a time."""
        self.progress(f"checking {name}")
        row = Measurement(name, 0, 0.0, 0.0, "")
        try:
            self.candidates.prepare(name)
            engine = self.candidates.load(name, self.candidates.batch_sizes()[-1])
            difference = self.reference.compare(engine)
        except EngineError as exc:
            return replace(row, problem=str(exc))
        except (RuntimeError, InternalError, PackageError):
            # Raised by torch and OpenVINO for an operation that they lack in a precision.
            return replace(row, problem=f"it fails on this model in {self.requirements.precision}")
        tolerance = self.reference.tolerance
        if difference <= tolerance:
            self.engines[name] = engine
            return replace(row, difference=difference)
        expected, setting = (
            ("the package's golden samples", "the package's tolerance")
            if self.package.golden
            else ("the reference's", "score_tolerance_permille")
        )
        problem = (
            f"a score differs by {difference:.4f} from {expected}, "
            f"more than {tolerance:g} ({setting})"
        )
        return replace(row, difference=difference, problem=problem)

    def _time(self, rows: list[Measurement]) -> list[Measurement]:
        """Time single images, then larger batches of the candidates that are not pruned."""
        self.progress("measuring single images")
        for row in rows:
            warm_up(self.engines[row.engine], self.reference.inputs[:1])
        rounds = [[self._ms(row.engine, 1) for row in rows] for _ in range(ROUNDS)]
        singles = [
            replace(row, batch=1, ms=min(times))
            for row, times in zip(rows, zip(*rounds, strict=True), strict=True)
        ]
        limit_ms = min(row.ms for row in singles) * PRUNE_RATIO
        batches = []
        for row in (row for row in singles if row.ms <= limit_ms):
            check = BatchCheck(self.package, self.engines[row.engine], self.reference.tolerance)
            for batch in self.candidates.batch_sizes()[1:]:
                self.progress(f"measuring batches of {batch} with {row.engine}")
                batches.append(self._time_batch(row, batch, check))
                if batches[-1].problem:
                    break
        return singles + batches

    def _time_batch(self, single: Measurement, batch: int, check: BatchCheck) -> Measurement:
        """Time a batch size relative to single images, in turns with them.

        Otherwise batches would look faster whenever other load on the machine ends in between.
        """
        name = single.engine
        if problem := check.find_problem(batch):
            return replace(single, batch=batch, ms=0.0, problem=problem)
        ratios = []
        for _ in range(ROUNDS):
            single_ms, batch_ms = self._ms(name, 1), self._ms(name, batch)
            ratios.append(batch_ms / single_ms)
        return replace(single, batch=batch, ms=single.ms * median(ratios))

    def _time_latency(self, name: str) -> LatencyMeasurement | None:
        """Time an image that all cores compute together, in turns with one on one core."""
        inputs = self.reference.inputs
        try:
            engine = self.candidates.load_latency_engine(name)
        except EngineError:
            return None
        if engine is None:
            return None
        difference = self.reference.compare(engine)
        engines = (engine, self.engines[name])
        for each in engines:
            warm_up(each, inputs[:1])
        rounds = [[ms_per_image(each, inputs, 1, 1) for each in engines] for _ in range(ROUNDS)]
        ms, one_core_ms = (median(times) for times in zip(*rounds, strict=True))
        chosen = difference <= self.reference.tolerance and ms <= one_core_ms * MAX_TIME_RATIO
        return LatencyMeasurement(self.requirements.cores, ms, one_core_ms, difference, chosen)

    def _ms(self, name: str, batch: int) -> float:
        inputs, threads = self.reference.inputs, self.requirements.threads
        return ms_per_image(self.engines[name], inputs, batch, threads)


def ms_per_image(engine: Engine, inputs: FloatArray, batch: int, threads: int) -> float:
    """Measure an engine for ROUND_S; every thread computes at least one batch.

    Args:
        engine: the engine, warm at this batch size.
        inputs: float32 (N, C, H, W), repeated if there are fewer than ``batch``.
        batch: number of images in a batch.
        threads: number of concurrent inferences.

    Returns:
        Wall time in milliseconds divided by the number of images.
    """
    images = _batch_of(inputs, batch)
    started = time.monotonic()

    def count_images(_: int) -> int:
        count = 0
        while not count or time.monotonic() < started + ROUND_S:
            engine.infer(images)
            count += batch
        return count

    with ThreadPoolExecutor(threads) as pool:
        total = sum(pool.map(count_images, range(threads)))
    return (time.monotonic() - started) * 1000 / total


def _batch_of(inputs: FloatArray, batch: int) -> FloatArray:
    return np.resize(inputs, (batch, *inputs.shape[1:]))
