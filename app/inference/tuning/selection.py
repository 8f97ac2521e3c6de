"""The engine selected for a package on this machine, and the store of selections."""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from app.packages.package import Package
from app.settings import Settings
from app.system.cpus import cpu_model, usable_cpus
from app.system.files import atomic_write, file_lock, read_regular
from app.system.sizing import cpus_per_worker

FORMAT = 5
"""Of the stored file; packages with a file of another format are tuned again."""

FOLDER = "engines"
SELECTION_FILE = "selection.json"
_LIBRARIES = ("numpy", "openvino", "torch")


@dataclass(frozen=True)
class EngineRequirements:
    """The requirements for an engine.

    Attributes:
        engine: ``auto``, ``torchscript``, ``onnxruntime`` or ``openvino``.
        precision: ``float32``, ``bfloat16``, ``float16`` or ``int8``.
        device: ``cpu`` or ``cuda:N``.
        threads: number of concurrent inferences.
        tolerance: maximum difference of a score from the reference's, from 0 to 1, for a
            package without golden samples.
    """

    engine: str
    precision: str
    device: str
    threads: int
    tolerance: float

    @property
    def cores(self) -> int:
        """Number of cores that can compute one image together."""
        return min(self.threads, usable_cpus())


def engine_requirements(settings: Settings, device: str) -> EngineRequirements:
    """Return the requirements for the engines of one worker; see resolve_device for the device."""
    # A GPU computes one batch after the other; a second thread would only split the batches.
    default_threads = cpus_per_worker(settings) if device == "cpu" else 1
    return EngineRequirements(
        engine=settings.engine,
        precision=settings.precision,
        device=device,
        threads=settings.inference_threads or default_threads,
        tolerance=settings.score_tolerance_permille / 1000,
    )


@dataclass(frozen=True)
class Measurement:
    """One candidate at one batch size.

    Attributes:
        engine: a name from ``app.inference.tuning.candidates``.
        batch: number of images in a batch; 0 if it was not timed.
        ms: milliseconds per image with all threads busy; 0 if it was not timed.
        difference: maximum difference of a score from the reference.
        problem: why it cannot serve; empty if it can.
    """

    engine: str
    batch: int
    ms: float
    difference: float
    problem: str


@dataclass(frozen=True)
class LatencyMeasurement:
    """The selected engine with a single image that all cores compute together.

    Attributes:
        cores: number of these cores.
        ms: milliseconds per image.
        one_core_ms: milliseconds per image on one core.
        difference: maximum difference of a score from the reference.
        chosen: whether uncontended images are computed this way.
    """

    cores: int
    ms: float
    one_core_ms: float
    difference: float
    chosen: bool


@dataclass(frozen=True)
class EngineSelection:
    """The engine to serve with, and the measurements that selected it.

    Attributes:
        engine: a name from ``app.inference.tuning.candidates``.
        max_batch: maximum number of images in a batch.
        latency: None if several cores cannot compute an image together.
        measurements: those of all candidates.
    """

    engine: str
    max_batch: int
    latency: LatencyMeasurement | None
    measurements: tuple[Measurement, ...]


class SelectionStore:
    """Stores the selection for a package, with everything that it depends on.

    Attributes:
        folder: holds the selection and the converted model. Its name contains a digest of
            everything that the selection depends on, so any change leads to another folder.

    Raises:
        OSError: the folder cannot be created.
    """

    def __init__(self, state_dir: Path, package: Package, requirements: EngineRequirements) -> None:
        is_onnx = package.manifest.model.format == "onnx"
        libraries = (
            *_LIBRARIES,
            *["nncf"] * (requirements.precision == "int8"),
            *["onnxruntime"] * is_onnx,
        )
        self._depends_on = {
            "format": FORMAT,
            "package": package.digest,
            "cpu": cpu_model(),
            "libraries": library_versions(libraries),
            **asdict(requirements),
        }
        digest = hashlib.sha256(json.dumps(self._depends_on, sort_keys=True).encode()).hexdigest()
        self.folder = state_dir / FOLDER / f"{package.manifest.name}-{digest[:24]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path = self.folder / SELECTION_FILE

    def read(self) -> EngineSelection | None:
        """Read the selection; None if there is none, or its file is damaged."""
        try:
            document = json.loads(read_regular(self._path))
            measurements = tuple(Measurement(**row) for row in document["measurements"])
            latency = LatencyMeasurement(**document["latency"]) if document["latency"] else None
            return EngineSelection(
                str(document["engine"]), int(document["max_batch"]), latency, measurements
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, selection: EngineSelection) -> None:
        """Store a selection.

        Raises:
            OSError: the state folder cannot be written.
        """
        document = {"depends_on": self._depends_on, **asdict(selection)}
        with atomic_write(self._path) as stream:
            stream.write(json.dumps(document, indent=2).encode())

    def lock(self) -> AbstractContextManager[None]:
        """Let one process measure at a time, also of different packages."""
        # Readable for all: an administrator's command and the service's account share it.
        return file_lock(self.folder.parent / "lock", 0o644)

    def delete(self) -> None:
        """Delete the selection, so that the package is tuned again."""
        self._path.unlink(missing_ok=True)


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each distribution; empty if it is not installed."""
    versions = dict.fromkeys(names, "")
    for name in names:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def give_to_owner(state_dir: Path) -> None:
    """Give what root has written to the owner of the state folder, the server's account."""
    if os.geteuid() == 0:
        owner = state_dir.stat()
        for path in (*state_dir.glob(FOLDER), *(state_dir / FOLDER).rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
