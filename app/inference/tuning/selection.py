"""Which engine a package is served with on this machine, and where that is remembered."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from app.packages.package import Package
from app.settings import Settings
from app.system.cpus import cpu_model, usable_cpus
from app.system.sizing import cpus_each

FORMAT = 3
"""Of the remembered file; another one is measured again."""

FOLDER = "engines"
_CHOICE_FILE = "choice.json"
_LIBRARIES = ("numpy", "openvino", "torch")
_QUANTISER = "nncf"


@dataclass(frozen=True)
class EngineRequirements:
    """What is asked of an engine.

    Attributes:
        engine: ``auto``, ``torchscript`` or ``openvino``.
        precision: ``float32``, ``bfloat16``, ``float16`` or ``int8``.
        device: ``cpu`` or ``cuda:N``.
        threads: how many inferences run at once.
        tolerance: the largest difference of a score from plain TorchScript's, where the
            package has no golden samples.
    """

    engine: str
    precision: str
    device: str
    threads: int
    tolerance: float

    @property
    def cores(self) -> int:
        """How many cores can compute an image together."""
        return min(self.threads, usable_cpus())


def engine_requirements(settings: Settings, device: str) -> EngineRequirements:
    """What the settings ask of the engines of one worker.

    Args:
        settings: the settings in force.
        device: ``cpu`` or ``cuda:N``, resolved.
    """
    # A card computes one batch after the other; a second thread would only split the batches.
    shared = cpus_each(settings) if device == "cpu" else 1
    return EngineRequirements(
        engine=settings.engine,
        precision=settings.precision,
        device=device,
        threads=settings.inference_threads or shared,
        tolerance=settings.score_tolerance_permille / 1000,
    )


@dataclass(frozen=True)
class Measurement:
    """One candidate at one batch size.

    Attributes:
        engine: a name that ``app.inference.tuning.candidates`` knows.
        batch: images computed together.
        ms: milliseconds for an image, all threads at work; 0 when it was not measured.
        difference: the largest difference of any score from plain TorchScript's.
        problem: why it cannot serve; empty when it can.
    """

    engine: str
    batch: int
    ms: float
    difference: float
    problem: str


@dataclass(frozen=True)
class LatencyMeasurement:
    """The chosen engine with an image that has all cores to itself.

    Attributes:
        cores: how many then compute it together.
        ms: milliseconds for an image.
        one_core_ms: what it takes on one of them.
        difference: the largest difference of any score from plain TorchScript's.
        chosen: whether such images are computed so.
    """

    cores: int
    ms: float
    one_core_ms: float
    difference: float
    chosen: bool


@dataclass(frozen=True)
class EngineSelection:
    """What to serve with, and what was measured to find it.

    Attributes:
        engine: a name that ``app.inference.tuning.candidates`` knows.
        max_batch: how many images it is given together at most.
        latency: None where no image can be spread over cores.
        measurements: of all candidates.
    """

    engine: str
    max_batch: int
    latency: LatencyMeasurement | None
    measurements: tuple[Measurement, ...]


class SelectionStore:
    """Remembers choices in the state folder, with all that they depend on.

    Args:
        state_dir: the state folder.
    """

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir / FOLDER

    def folder(self, package: Package, requirements: EngineRequirements) -> Path:
        """The folder of one package and requirements on this machine; made when it is not there.

        Its name is a digest of all that the choice depends on, so a change of any of them
        leads to a new folder.
        """
        key = json.dumps(_dependencies(package, requirements), sort_keys=True).encode()
        folder = self._root / f"{package.manifest.name}-{hashlib.sha256(key).hexdigest()[:24]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def read(self, package: Package, requirements: EngineRequirements) -> EngineSelection | None:
        """Recall a choice; None when there is none, or its file is damaged."""
        try:
            document = json.loads((self.folder(package, requirements) / _CHOICE_FILE).read_bytes())
            measurements = tuple(Measurement(**row) for row in document["measurements"])
            latency = LatencyMeasurement(**document["latency"]) if document["latency"] else None
            return EngineSelection(
                str(document["engine"]), int(document["max_batch"]), latency, measurements
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(
        self, package: Package, requirements: EngineRequirements, choice: EngineSelection
    ) -> None:
        """Remember a choice.

        Raises:
            OSError: the state folder cannot be written.
        """
        folder = self.folder(package, requirements)
        document = {"depends_on": _dependencies(package, requirements), **asdict(choice)}
        staged = folder / f".{os.getpid()}-{_CHOICE_FILE}"
        staged.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
        staged.replace(folder / _CHOICE_FILE)

    def forget(self, package: Package, requirements: EngineRequirements) -> None:
        """Drop a choice, so that it is measured again."""
        (self.folder(package, requirements) / _CHOICE_FILE).unlink(missing_ok=True)


def _dependencies(package: Package, requirements: EngineRequirements) -> dict[str, object]:
    libraries = (*_LIBRARIES, *([_QUANTISER] if requirements.precision == "int8" else []))
    return {
        "format": FORMAT,
        "package": package.digest,
        "cpu": cpu_model(),
        "libraries": library_versions(libraries),
        **asdict(requirements),
    }


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """The installed version of each distribution; empty for one that is not there."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
