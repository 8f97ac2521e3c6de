"""The optimisation, from the photos to the new version, in a straight line."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from app.errors import OperatorError
from app.evaluation.dataset import Sample, read_image
from app.imaging.guard import guard
from app.inference.engines import openvino
from app.inference.engines.base import EngineError, FloatArray, use_one_thread_per_operation
from app.inference.engines.quantisation import require_nncf
from app.inference.golden.samples import make_scorer
from app.inference.preparation import prepare_image
from app.inference.tuning.comparison import ms_per_image
from app.optimisation.candidates import Candidate, Progress, make_candidates
from app.optimisation.photos import Photos, prepare_photos
from app.optimisation.scoring import Quality, judge, pick, score_inputs
from app.packages.manifest import MANIFEST_FILE
from app.packages.openvino_file import write_openvino_file
from app.packages.package import Golden, Package
from app.packages.store import latest_version
from app.packages.write import GoldenDraft, PackageDraft, write_package
from app.system.cpus import cpu_model, usable_cpus

ROUNDS = 5
MAX_TIME_RATIO = 0.95
"""A version that is less than 5 % faster is not worth a change of its scores."""

TIMED_PHOTOS = 60
GOLDEN_PHOTOS = 8
TOLERANCE = 0.005
"""Of a new version whose source has no golden samples."""

_RECORDED = ("classifyd", "nncf", "numpy", "openvino", "torch")


@dataclass(frozen=True)
class Row:
    """A candidate, measured.

    Attributes:
        name: of the candidate.
        unseen: its quality on the photos that it has not seen.
        calibration: the same on the half that calibrated it.
        ms: the model's arithmetic for an image, with all cores busy: the best round.
        worst_ms: the slowest round.
        prepare_ms: decoding and preprocessing of a photo, on one core.
        fits: whether it loses no more than allowed, on both halves.
    """

    name: str
    unseen: Quality
    calibration: Quality
    ms: float
    worst_ms: float
    prepare_ms: float
    fits: bool

    @property
    def request_ms(self) -> float:
        """Processor time for a photo: decoding, preprocessing and arithmetic."""
        return self.prepare_ms + self.ms * usable_cpus()


@dataclass(frozen=True)
class Optimisation:
    """What was measured, and the new version, None if nothing is faster within the drop.

    The first row is float32; ``chosen`` is the name of a row.
    """

    source: Package
    max_drop: float
    photos: Photos
    rows: list[Row]
    chosen: str
    package: Package | None


def optimise(
    package: Package,
    samples: Sequence[Sample],
    max_drop: float,
    check: Callable[[Package], object],
    progress: Progress,
) -> Optimisation:
    """Write the fastest version of a package that loses at most ``max_drop`` of its top-1.

    Of candidates that are equally fast, it is the one that agrees most with float32.

    Args:
        package: the version in float32, in its place ``weights/NAME/VERSION``.
        samples: labelled photos.
        max_drop: share of the photos, 0 to 1.
        check: called with the new package before it is put in place; see write_package.
        progress: called with each stage.

    Raises:
        OperatorError: the package cannot be optimised, or see prepare_photos; nothing is left
            behind.
    """
    use_one_thread_per_operation()
    try:
        require_nncf()
        progress("converting the model")
        model = openvino.convert(package)
        progress("preparing the photos")
        photos = prepare_photos(package, samples)
        candidates = _Measurements(package, photos, max_drop, progress)
        for candidate in make_candidates(model, photos, package.manifest.output, progress):
            progress(f"scoring the photos with {candidate.name}")
            candidates.add(candidate)
    except EngineError as exc:
        raise OperatorError(f"{package.folder} cannot be optimised: {exc}") from exc
    rows, chosen = candidates.rank()
    if chosen is None:
        return Optimisation(package, max_drop, photos, rows, rows[0].name, None)
    scaled = candidates.try_scaled_decode(chosen, rows)
    rows += [scaled] if scaled else []
    is_scaled = scaled is not None and scaled.fits and _is_faster(scaled, rows[0].prepare_ms)
    best = scaled if is_scaled and scaled else next(r for r in rows if r.name == chosen.name)
    progress("writing the new version")
    record = _record(package, chosen, rows[0], best, photos, max_drop, is_scaled)
    written = write_version(package, chosen, photos, record, is_scaled, check)
    return Optimisation(package, max_drop, photos, rows, best.name, written)


def _is_faster(scaled: Row, prepare_ms: float) -> bool:
    before = scaled.request_ms - scaled.prepare_ms + prepare_ms
    return scaled.request_ms <= before * MAX_TIME_RATIO


class _Measurements:
    """Scores and times the candidates; float32 comes first."""

    def __init__(
        self, package: Package, photos: Photos, max_drop: float, progress: Progress
    ) -> None:
        self._package, self._photos = package, photos
        self._max_drop, self._progress = max_drop, progress
        self._candidates: list[Candidate] = []
        self._scores: list[FloatArray] = []

    def add(self, candidate: Candidate) -> None:
        """Score the photos with a candidate."""
        inputs, spec = self._photos.inputs, self._package.manifest.output
        self._candidates.append(candidate)
        self._scores.append(score_inputs(candidate.load(), inputs, spec))

    def rank(self) -> tuple[list[Row], Candidate | None]:
        """Time all candidates in turns; return the rows, and the fastest that fits."""
        self._progress("measuring the time of each candidate")
        engines = [candidate.load() for candidate in self._candidates]
        inputs = np.array(self._photos.inputs[self._photos.unseen[:1]])
        times = [
            [ms_per_image(engine, inputs, 1, usable_cpus()) for engine in engines]
            for _ in range(1 + ROUNDS)
        ]
        prepare_ms = self._prepare_ms(self._package)
        # The first round warms the engines up.
        columns = zip(*times[1:], strict=True)
        rows = [
            self._row(candidate.name, scores, (min(ms), max(ms), prepare_ms))
            for candidate, scores, ms in zip(self._candidates, self._scores, columns, strict=True)
        ]
        fitting = [
            (row, candidate)
            for row, candidate in zip(rows[1:], self._candidates[1:], strict=True)
            if row.fits and row.ms <= rows[0].ms * MAX_TIME_RATIO
        ]
        if not fitting:
            return rows, None
        best_ms = min(row.ms for row, _ in fitting)
        equal = [pair for pair in fitting if pair[0].ms * MAX_TIME_RATIO <= best_ms]
        return rows, max(equal, key=lambda pair: pair[0].unseen.agreement.share)[1]

    def try_scaled_decode(self, chosen: Candidate, rows: list[Row]) -> Row | None:
        """Measure the chosen candidate with scaled_decode; None if no photo is large enough."""
        manifest = self._package.manifest
        scaled = replace(self._package, manifest=replace(manifest, scaled_decode=True))
        if manifest.scaled_decode or max(map(scaled.reduction, self._headers())) == 1:
            return None
        self._progress("scoring the photos with scaled_decode")
        inputs = prepare_photos(scaled, self._photos.samples).inputs
        scores = score_inputs(chosen.load(), inputs, manifest.output)
        row = next(row for row in rows if row.name == chosen.name)
        name = f"{chosen.name}, scaled_decode"
        return self._row(name, scores, (row.ms, row.worst_ms, self._prepare_ms(scaled)))

    def _row(self, name: str, scores: FloatArray, times: tuple[float, float, float]) -> Row:
        unseen, calibration = (
            judge(
                self._package,
                pick(self._photos.samples, half),
                scores[half],
                self._scores[0][half],
            )
            for half in (self._photos.unseen, self._photos.calibration)
        )
        # Beyond the rounding of a share.
        fits = max(unseen.drop.share, calibration.drop.share) <= self._max_drop + 1e-9
        return Row(name, unseen, calibration, *times, fits)

    def _headers(self) -> Any:
        for sample in pick(self._photos.samples, self._photos.unseen):
            header, _ = guard(read_image(sample.path))
            yield header

    def _prepare_ms(self, package: Package) -> float:
        """The median time to decode and preprocess a photo on one core."""
        times = []
        for sample in pick(self._photos.samples, self._photos.unseen[:TIMED_PHOTOS]):
            data = read_image(sample.path)
            started = time.perf_counter()
            prepare_image(data, package)
            times.append((time.perf_counter() - started) * 1000)
        return median(times)


def write_version(
    package: Package,
    chosen: Candidate,
    photos: Photos,
    record: dict[str, Any],
    is_scaled: bool,
    check: Callable[[Package], object],
) -> Package:
    """Write the next version, whose golden samples have the scores that it gives itself.

    Args:
        package: the source.
        chosen: its model.
        photos: become golden samples if the source has none.
        record: for people; see Manifest.
        is_scaled: whether large photos are decoded at a reduced size.
        check: see write_package.

    Raises:
        PackageError: see write_package.
    """
    source = json.loads((package.folder / MANIFEST_FILE).read_text(encoding="utf-8-sig"))
    paths = package.golden.images if package.golden else _golden_paths(photos)
    unknown = Golden(0.0, paths, (), np.zeros(0, np.float32))
    score = make_scorer(package, unknown, chosen.load())
    draft = PackageDraft(
        name=package.manifest.name,
        version=str(latest_version(package.folder.parent) + 1),
        # OpenVINO's form has this input, whatever that of an ONNX file was.
        input=source["input"] | {"layout": "NCHW", "dtype": "float32"},
        preprocess=source["preprocess"],
        output={key: value for key, value in source["output"].items() if key != "name"},
        labels=package.labels,
        save_model=lambda path: write_openvino_file(path, *chosen.converted),
        model_format="openvino",
        precision=chosen.precision,
        golden=GoldenDraft(
            package.golden.tolerance if package.golden else TOLERANCE,
            [path.read_bytes() for path in paths],
            score(package.preprocessor, package.manifest.output),
        ),
        scaled_decode=is_scaled or package.manifest.scaled_decode,
        orientation=package.manifest.orientation,
        training=package.manifest.training,
        optimisation=record,
    )
    return write_package(package.folder.parent.parent, draft, check)


def _golden_paths(photos: Photos) -> tuple[Path, ...]:
    return tuple(sample.path for sample in pick(photos.samples, photos.unseen[:GOLDEN_PHOTOS]))


def _record(
    package: Package,
    chosen: Candidate,
    float32: Row,
    best: Row,
    photos: Photos,
    max_drop: float,
    is_scaled: bool,
) -> dict[str, Any]:
    """Describe the optimisation as JSON values."""
    return {
        "source": {"version": package.manifest.version, "digest": package.digest},
        "max_drop": max_drop,
        "photos": {"calibration": len(photos.calibration), "unseen": len(photos.unseen)},
        "layers_in_float32": list(chosen.in_float),
        "scaled_decode": is_scaled,
        "float32": asdict(float32),
        "optimised": asdict(best),
        "processor": cpu_model(),
        "versions": {name: version(name) for name in _RECORDED},
    }
