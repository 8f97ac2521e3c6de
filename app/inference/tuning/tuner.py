"""Finding the fastest engine that agrees with plain TorchScript, once for a package and machine.

``python -m app.inference.tuning.tuner`` does it in a process of its own: loading every candidate
takes memory that a worker would keep, and an engine that crashes takes no worker along.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from app.errors import InternalError, OperatorError, PackageError
from app.inference.engines.base import Engine, EngineError, FloatArray, use_one_thread_per_operation
from app.inference.engines.openvino import drop_compiled
from app.inference.engines.torchscript import PlainTorchScript
from app.inference.golden.check import GoldenResult, check_golden, measure_golden
from app.inference.tuning import candidates
from app.inference.tuning.measure import (
    ms_per_image,
    probe_batch,
    scores_of,
    warm_up,
    worst_difference,
)
from app.inference.tuning.selection import (
    EngineRequirements,
    EngineSelection,
    LatencyMeasurement,
    Measurement,
    SelectionStore,
)
from app.packages.package import Package, load_package
from app.system.files import file_lock

ROUND_S = 0.2
ROUNDS = 3
"""Candidates take turns, and the best of a candidate's rounds counts: what else the machine
does at the moment then hits no candidate alone."""

PRUNE_RATIO = 1.5
"""A candidate so many times slower than the best with single images is tried no further."""

MAX_TIME_RATIO = 0.95
"""Larger batches make requests wait for each other, and one more form of the model takes memory:
only a gain of 5 % pays for either."""

Progress = Callable[[str], None]

_log = logging.getLogger(__name__)


@dataclass
class _Candidate:
    name: str
    engine: Engine | None = None
    difference: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class _Reference:
    """What the scores of a package's engines are held against.

    Attributes:
        inputs: float32 (N, C, H, W).
        scores: those of plain TorchScript on the inputs, float32 (N, classes).
    """

    package: Package
    inputs: FloatArray
    scores: FloatArray

    def difference(self, engine: Engine) -> tuple[float, GoldenResult | None]:
        """The largest difference of a score, from the golden samples where there are any."""
        golden = measure_golden(self.package, engine)
        if golden:
            return golden.worst_difference, golden
        return worst_difference(self.package, engine, self.inputs, self.scores), None


def tune(
    package: Package,
    requirements: EngineRequirements,
    store: SelectionStore,
    progress: Progress = lambda _: None,
) -> EngineSelection:
    """Measure the candidates, choose one and remember the choice.

    Args:
        package: the package to serve.
        requirements: what is asked of its engine.
        store: remembers the choice.
        progress: is told what is done at the moment.

    Raises:
        PackageError: no candidate can serve the package.
        OSError: the state folder cannot be written.
    """
    folder = store.folder(package, requirements)
    with _alone(folder):
        choice = measure_candidates(package, requirements, folder, progress)
        # That of all that was tried: as large as the model, each, and one of them is needed.
        drop_compiled(folder)
        store.write(package, requirements, choice)
    return choice


def measure_candidates(
    package: Package, requirements: EngineRequirements, folder: Path, progress: Progress
) -> EngineSelection:
    """Check and time every candidate; see tune."""
    use_one_thread_per_operation()
    if not candidates.candidate_names(requirements):
        raise PackageError(
            str(package.folder),
            "",
            f"no engine computes {requirements.precision} with engine = {requirements.engine} on "
            f"{requirements.device}; set device = cpu and engine = auto, or precision = float32",
        )
    reference = _refer(package)
    found = _check_candidates(reference, requirements, folder, progress)
    usable = [candidate for candidate in found if candidate.engine is not None]
    if not usable:
        # Where not even the plain module gives the known answers, this says the likely cause.
        check_golden(package, PlainTorchScript(package.model_source()))
        problems = "; ".join(f"{each.name}: {each.problem}" for each in found)
        raise PackageError(str(package.folder), "", f"no engine can serve it: {problems}")
    measurements = _measure(usable, reference.inputs, requirements, progress)
    best = min(row.ms for row in measurements)
    chosen = min(
        (row for row in measurements if row.ms * MAX_TIME_RATIO <= best),
        key=lambda row: (row.batch, row.ms),
    )
    (candidate,) = (each for each in usable if each.name == chosen.engine)
    progress("measuring an image alone")
    alone = _measure_latency(candidate, reference, requirements, folder)
    refused = [Measurement(c.name, 0, 0.0, c.difference, c.problem) for c in found if c.problem]
    return EngineSelection(chosen.engine, chosen.batch, alone, (*measurements, *refused))


def _refer(package: Package) -> _Reference:
    inputs = probe_batch(package)
    try:
        scores = scores_of(package, PlainTorchScript(package.model_source()).infer(inputs))
    except (RuntimeError, InternalError) as exc:
        raise PackageError(
            str(package.model_path), "input", "the model failed on inputs that fit the manifest"
        ) from exc
    return _Reference(package, inputs, scores)


def _check_candidates(
    reference: _Reference, requirements: EngineRequirements, folder: Path, progress: Progress
) -> list[_Candidate]:
    package = reference.package
    found = []
    for name in candidates.candidate_names(requirements):
        progress(f"checking {name}")
        candidate = _Candidate(name)
        try:
            candidates.prepare(name, package, requirements, folder)
            engine = candidates.load(
                name, package, requirements, folder, candidates.batches_of(requirements)[-1]
            )
            candidate.difference, golden = reference.difference(engine)
            _check_agreement(candidate.difference, golden, requirements)
            candidate.engine = engine
        except EngineError as exc:
            candidate.problem = str(exc)
        except (RuntimeError, InternalError, PackageError):
            # What torch and OpenVINO raise for an operation that they lack in a precision.
            candidate.problem = f"it fails on this model in {requirements.precision}"
        found.append(candidate)
    return found


def _check_agreement(
    difference: float, golden: GoldenResult | None, requirements: EngineRequirements
) -> None:
    tolerance = _tolerance(golden, requirements)
    if difference > tolerance:
        wanted = "the package's golden samples" if golden else "plain TorchScript"
        setting = "the package's tolerance" if golden else "score_tolerance_permille"
        raise EngineError(
            f"a score differs by {difference:.4f} from {wanted}, "
            f"more than {tolerance:g} ({setting})"
        )


def _tolerance(golden: GoldenResult | None, requirements: EngineRequirements) -> float:
    return golden.tolerance if golden else requirements.tolerance


def _measure(
    usable: list[_Candidate],
    inputs: FloatArray,
    requirements: EngineRequirements,
    progress: Progress,
) -> tuple[Measurement, ...]:
    """Time single images first, then larger batches of those that have a chance."""
    batches = candidates.batches_of(requirements)
    inputs = np.tile(inputs, (-(-batches[-1] // len(inputs)), 1, 1, 1))
    progress("measuring single images")
    rows = _take_turns(usable, inputs, requirements)
    best = min(row.ms for row in rows)
    hopeful = [pair for pair in zip(usable, rows, strict=True) if pair[1].ms <= best * PRUNE_RATIO]
    for batch in batches[1:]:
        progress(f"measuring batches of {batch}")
        rows += [_beside_single(each, row, batch, inputs, requirements) for each, row in hopeful]
    return tuple(rows)


def _take_turns(
    usable: list[_Candidate], inputs: FloatArray, requirements: EngineRequirements
) -> list[Measurement]:
    """Time single images of each candidate."""
    rows = [Measurement(each.name, 1, float("inf"), each.difference, "") for each in usable]
    for each in usable:
        assert each.engine is not None  # noqa: S101 - only usable candidates come here
        warm_up(each.engine, inputs, 1)
    for _ in range(ROUNDS):
        for index, each in enumerate(usable):
            assert each.engine is not None  # noqa: S101 - as above
            ms = ms_per_image(each.engine, inputs, 1, requirements.threads, ROUND_S)
            rows[index] = replace(rows[index], ms=min(rows[index].ms, ms))
    return rows


def _beside_single(
    candidate: _Candidate,
    single: Measurement,
    batch: int,
    inputs: FloatArray,
    requirements: EngineRequirements,
) -> Measurement:
    """Time a batch size in turns with single images, and relate it to what those took before.

    A machine that does something else while the single images are measured, and no more while
    the batches are, so does not make the batches look better than they are.
    """
    engine = candidate.engine
    assert engine is not None  # noqa: S101 - only usable candidates come here
    warm_up(engine, inputs, batch)
    ratios = []
    for _ in range(ROUNDS):
        alone, together = (
            ms_per_image(engine, inputs, size, requirements.threads, ROUND_S) for size in (1, batch)
        )
        ratios.append(together / alone)
    return replace(single, batch=batch, ms=single.ms * median(ratios))


def _measure_latency(
    candidate: _Candidate, reference: _Reference, requirements: EngineRequirements, folder: Path
) -> LatencyMeasurement | None:
    """Time an image that all cores compute together, in turns with one on one core."""
    one_core = candidate.engine
    assert one_core is not None  # noqa: S101 - only usable candidates come here
    try:
        alone = candidates.load_latency_engine(
            candidate.name, reference.package, requirements, folder
        )
    except EngineError:
        return None
    if alone is None:
        return None
    difference, golden = reference.difference(alone)
    engines = (alone, one_core)
    for engine in engines:
        warm_up(engine, reference.inputs, 1)
    turns = [
        [ms_per_image(engine, reference.inputs, 1, 1, ROUND_S) for engine in engines]
        for _ in range(ROUNDS)
    ]
    ms, one_core_ms = (median(times) for times in zip(*turns, strict=True))
    agrees = difference <= _tolerance(golden, requirements)
    is_chosen = agrees and ms <= one_core_ms * MAX_TIME_RATIO
    return LatencyMeasurement(requirements.cores, ms, one_core_ms, difference, is_chosen)


def tune_in_process(package: Package, requirements: EngineRequirements, state_dir: Path) -> None:
    """Tune in a process of its own, unless another one has done so in the meantime.

    The content key of a sealed package goes through a pipe: arguments and environment of a
    process are there for others to read.

    Raises:
        PackageError: no candidate can serve the package, or the measuring ended early.
    """
    arguments = {"folder": str(package.folder), "state_dir": str(state_dir), **asdict(requirements)}
    _log.info("measuring engines for %s, once for this machine", package.manifest.name)
    ended = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "app.inference.tuning.tuner", json.dumps(arguments)],
        input=package.content_key or b"",
        capture_output=True,
        check=False,
    )
    if ended.returncode != 0:
        text = ended.stderr.decode("utf-8", "replace")
        lines = text.strip().splitlines() or [f"exit status {ended.returncode}"]
        raise PackageError(str(package.folder), "", f"its engines cannot be measured: {lines[-1]}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process measure at a time, also of different packages."""
    # Readable for all: an administrator's command and the service's account share it.
    with file_lock(folder.parent / "lock", 0o644):
        yield


def main(text: str, content_key: bytes) -> int:
    """Tune as tune_in_process asks; see the module."""
    arguments = json.loads(text)
    package = load_package(Path(arguments.pop("folder")))
    package = replace(package, content_key=content_key or None)
    store = SelectionStore(Path(arguments.pop("state_dir")))
    requirements = EngineRequirements(**arguments)
    with _alone(store.folder(package, requirements)):
        if store.read(package, requirements) is not None:
            return 0
    try:
        tune(package, requirements, store)
    except (OperatorError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.stdin.buffer.read()))
