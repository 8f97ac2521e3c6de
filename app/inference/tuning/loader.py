"""Loaders of a package's model."""

import logging
from collections.abc import Callable
from pathlib import Path

from app.errors import PackageError
from app.inference.engines.base import EngineError, LoadedEngine
from app.inference.engines.plain import load_default
from app.inference.tuning.candidates import TORCHSCRIPT, Candidates
from app.inference.tuning.selection import EngineRequirements, EngineSelection, SelectionStore
from app.inference.tuning.tuner import tune_in_process
from app.packages.package import Package

Loader = Callable[[Package], LoadedEngine]
"""Loads a package's model; raises PackageError if that is impossible."""

_NOTHING_TO_MEASURE = ("torchscript", "float32", "cpu")
"""The engine, precision and device that need no tuning."""

_log = logging.getLogger(__name__)


def load_exact(package: Package) -> LoadedEngine:
    """Load without batches, on the CPU, for tools that do not need speed; see load_default.

    Raises:
        PackageError: the model cannot be loaded.
    """
    return LoadedEngine(load_default(package), 1)


class TunedLoader:
    """Loads the fastest engine of this machine; ``max_batch`` replaces the selected batch size."""

    def __init__(
        self, requirements: EngineRequirements, state_dir: Path, max_batch: int | None = None
    ) -> None:
        self._requirements = requirements
        self._state_dir = state_dir
        self._max_batch = max_batch

    def load(self, package: Package) -> LoadedEngine:
        """Load a package's model; tune first if no selection is stored.

        Raises:
            PackageError: no engine can serve the package with these requirements.
            LockedPackage: it is sealed, and the package has no content key.
            TamperedPackage: it is sealed, and its content key does not open it.
        """
        if package.sealed:
            # Raises first: a package that cannot be opened is not the fault of an engine.
            package.model_source()
        store = SelectionStore(self._state_dir, package, self._requirements)
        try:
            return self._load(package, store)
        except EngineError as exc:
            _log.warning("%s cannot be loaded (%s), measuring again", package.manifest.name, exc)
            store.delete()
        try:
            return self._load(package, store)
        except EngineError as exc:
            raise PackageError(package.folder, str(exc)) from exc

    def _load(self, package: Package, store: SelectionStore) -> LoadedEngine:
        selection = self._select(package, store)
        max_batch = self._max_batch or selection.max_batch
        max_batch = min(max_batch, package.manifest.input.batch or max_batch)
        candidates = Candidates(package, self._requirements, store.folder)
        engine = candidates.load(selection.engine, max_batch)
        is_latency_engine_chosen = selection.latency and selection.latency.chosen
        return LoadedEngine(
            engine,
            max_batch,
            candidates.load_latency_engine(selection.engine) if is_latency_engine_chosen else None,
            package.golden.tolerance if package.golden else self._requirements.tolerance,
        )

    def _select(self, package: Package, store: SelectionStore) -> EngineSelection:
        required = self._requirements
        needs = (required.engine, required.precision, required.device)
        if needs == _NOTHING_TO_MEASURE and package.manifest.model.format == "torchscript":
            return EngineSelection(TORCHSCRIPT, 1, None, ())
        selection = store.read()
        if selection is None:
            tune_in_process(package, required, self._state_dir)
            selection = store.read()
        if selection is None:
            raise PackageError(package.folder, "the stored engine cannot be read back")
        return selection
