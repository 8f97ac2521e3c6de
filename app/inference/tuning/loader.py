"""Loading a package's model with the engine that was chosen for it."""

import logging
from pathlib import Path
from typing import Protocol

from app.errors import PackageError
from app.inference.engines.base import EngineError, LoadedEngine
from app.inference.engines.torchscript import TorchScriptEngine
from app.inference.tuning import candidates
from app.inference.tuning.selection import EngineRequirements, EngineSelection, SelectionStore
from app.inference.tuning.tuner import tune_in_process
from app.packages.package import Package

_log = logging.getLogger(__name__)


class Loader(Protocol):
    """Loads the model of a package."""

    def load(self, package: Package) -> LoadedEngine:
        """Load a package's model.

        Raises:
            PackageError: the model cannot be loaded.
        """
        ...


class ExactLoader:
    """TorchScript on the CPU, image by image: for tools that need no speed."""

    def load(self, package: Package) -> LoadedEngine:
        """Load a package's model; see Loader.load."""
        return LoadedEngine(TorchScriptEngine(package.model_source(), package.manifest.input), 1)


class TunedLoader:
    """The engine that measures fastest on this machine.

    Args:
        requirements: what is asked of the engines.
        state_dir: remembers what was measured.
        max_batch: how many images are to be computed together at most; None for what was
            measured to be best.
    """

    def __init__(
        self, requirements: EngineRequirements, state_dir: Path, max_batch: int | None = None
    ) -> None:
        self.requirements = requirements
        self._state_dir = state_dir
        self._store = SelectionStore(state_dir)
        self._max_batch = max_batch

    def load(self, package: Package) -> LoadedEngine:
        """Load a package's model, measuring the engines first where nobody has yet.

        Raises:
            PackageError: no engine can serve the package as it is asked for.
            LockedPackage: it is sealed, and the package has no content key.
            TamperedPackage: it is sealed, and its content key does not open it.
        """
        if package.sealed:
            # Before anything is measured: what does not open is no fault of an engine.
            package.model_source()
        if self._is_given():
            return self._load(package, EngineSelection(candidates.TORCHSCRIPT, 1, None, ()))
        try:
            return self._load(package, self._choice(package))
        except EngineError as exc:
            _log.warning("%s cannot be loaded (%s), measuring again", package.manifest.name, exc)
            self._store.forget(package, self.requirements)
        try:
            return self._load(package, self._choice(package))
        except EngineError as exc:
            raise PackageError(str(package.folder), "", str(exc)) from exc

    def _is_given(self) -> bool:
        """Whether there is nothing to measure: plain arithmetic on the engine that was named."""
        wanted = (self.requirements.engine, self.requirements.precision, self.requirements.device)
        return wanted == ("torchscript", "float32", "cpu")

    def _choice(self, package: Package) -> EngineSelection:
        choice = self._store.read(package, self.requirements)
        if choice is None:
            tune_in_process(package, self.requirements, self._state_dir)
            choice = self._store.read(package, self.requirements)
        if choice is None:
            raise PackageError(str(package.folder), "", "what was measured cannot be read back")
        return choice

    def _load(self, package: Package, choice: EngineSelection) -> LoadedEngine:
        folder = self._store.folder(package, self.requirements)
        max_batch = self._max_batch or choice.max_batch
        engine = candidates.load(choice.engine, package, self.requirements, folder, max_batch)
        alone = None
        if choice.latency and choice.latency.chosen:
            alone = candidates.load_latency_engine(
                choice.engine, package, self.requirements, folder
            )
        return LoadedEngine(engine, max_batch, alone)
