"""The classifiers that one worker serves, by deploy name."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import (
    AuthFailed,
    InvalidDeployName,
    LockedPackage,
    ModelUnavailable,
    PackageError,
    TamperedPackage,
)
from app.inference.classifier import Classifier, load_classifier
from app.inference.queue import InferenceQueue
from app.inference.tuning.loader import Loader
from app.packages.manifest import MANIFEST_FILE, Manifest, read_manifest
from app.packages.package import load_package
from app.packages.store import DesiredVersion, desired_versions, source_of
from app.serving.status_file import NameStatus

Unlock = Callable[[Manifest], bytes | None]
"""The content key of a sealed package, None for an open one, or LockedPackage is raised."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Entry:
    """What a deploy name answers with, and what the store wanted when that was settled.

    Attributes:
        wanted: what the store wanted.
        classifier: what answers, if anything does.
        source: see source_of, for what answers.
        problem: why what is wanted does not answer.
        publisher: whose licence what is wanted needs, empty for nobody's.
    """

    wanted: DesiredVersion
    classifier: Classifier | None
    source: str
    problem: PackageError | None
    publisher: str = ""


class ModelRegistry:
    """Every deploy name with its classifier, or the reason why it has none.

    What is served changes in ``refresh`` alone, by the assignment of one reference, and is
    never changed in place: a request that holds a classifier keeps it to its end, and the
    last one frees the model.

    Args:
        weights_dir: folder of the packages.
        loader: loads the model of a package.
        queue: where all its models compute.
        unlock: gives the content keys of sealed packages.

    Raises:
        PackageError: the weights folder cannot be read.
    """

    def __init__(
        self, weights_dir: Path, loader: Loader, queue: InferenceQueue, unlock: Unlock
    ) -> None:
        self._loader = loader
        self._unlock = unlock
        self._retry: set[str] = set()
        self.queue = queue
        self._weights_dir = weights_dir
        self._entries: dict[str, _Entry] = {}
        self.refresh()

    def get(self, deploy_name: str) -> Classifier:
        """Return the classifier of a deploy name.

        Raises:
            InvalidDeployName: no package has this name.
            ModelUnavailable: its package could not be loaded.
            AuthFailed: its package is sealed, and has no valid licence or was changed.
        """
        entry = self._entries.get(deploy_name)
        if entry is None:
            raise InvalidDeployName("no model is deployed under this name")
        if entry.classifier is None:
            if isinstance(entry.problem, LockedPackage | TamperedPackage):
                raise AuthFailed(entry.problem.problem)
            raise ModelUnavailable("the model of this deploy name could not be loaded", 60)
        return entry.classifier

    def refresh(self) -> bool:
        """Serve what the weights folder wants now; to be called by one thread at a time.

        A name's version is loaded beside the one that is served and takes its place when it
        is warm. When it cannot be loaded the one that is served stays, and at a start the
        latest version before it that can be.

        Returns:
            Whether anything was changed.

        Raises:
            PackageError: the weights folder cannot be read; then nothing is changed.
        """
        wanted = desired_versions(self._weights_dir)
        retry = set(self._retry)
        self._retry -= retry
        gone = self._entries.keys() - wanted.keys()
        changed = {
            name: want
            for name, want in wanted.items()
            if name in retry
            or name not in self._entries
            or self._entries[name].wanted.generation != want.generation
        }
        if gone:
            _log.info("no longer served, as removed: %s", ", ".join(sorted(gone)))
            self._entries = {n: entry for n, entry in self._entries.items() if n not in gone}
        for name, want in changed.items():
            entry = replace(self._reconcile(name, want), publisher=_publisher_in(want))
            self._entries = {**self._entries, name: entry}
        return bool(gone or changed)

    def retry(self, name: str) -> None:
        """Have the next refresh load what one deploy name wants, though it wants the same."""
        self._retry.add(name)

    def require_any(self) -> None:
        """Refuse to go on with nothing to serve.

        Raises:
            PackageError: the first problem, when no deploy name can be served.
        """
        problems = [entry.problem for entry in self._entries.values() if entry.problem]
        is_licence_awaited = any(isinstance(problem, LockedPackage) for problem in problems)
        is_any_served = any(entry.classifier for entry in self._entries.values())
        if problems and not is_any_served and not is_licence_awaited:
            raise problems[0]

    def describe(self) -> dict[str, dict[str, str | float | None]]:
        """For each deploy name that can be called, what answers it and how exactly.

        ``worst_difference`` is that from the known scores of the package's golden samples,
        null for a package without.
        """
        return {
            name: {
                "version": entry.classifier.package.manifest.version,
                "engine": entry.classifier.engine.name,
                "device": entry.classifier.engine.device,
                "worst_difference": entry.classifier.worst_difference,
            }
            for name, entry in sorted(self._entries.items())
            if entry.classifier
        }

    def publishers(self) -> dict[str, set[str]]:
        """For each deploy name whose licences it needs, for what answers and what is wanted."""
        return {
            name: {
                entry.publisher,
                _publisher_of(entry.classifier.package.manifest) if entry.classifier else "",
            }
            - {""}
            for name, entry in self._entries.items()
        }

    def problems(self) -> dict[str, str]:
        """For each deploy name that cannot be served, why; a missing licence is no fault."""
        if self.queue.is_hung:
            return dict.fromkeys(self._entries, "an inference hangs, the worker is replaced")
        return {
            name: str(entry.problem)
            for name, entry in self._entries.items()
            if not entry.classifier and not isinstance(entry.problem, LockedPackage)
        }

    def pending(self) -> dict[str, dict[str, str]]:
        """For each deploy name that an earlier version answers, the one wanted and why not."""
        return {
            name: {
                "version": entry.wanted.folder.name if entry.wanted.folder else "",
                "reason": str(entry.problem),
            }
            for name, entry in self._entries.items()
            if entry.classifier and entry.problem
        }

    def status(self) -> dict[str, NameStatus]:
        """For each deploy name, what ``activate --wait`` wants to know."""
        return {
            name: NameStatus(
                entry.wanted.generation,
                entry.classifier.package.manifest.version if entry.classifier else "",
                str(entry.problem or ""),
            )
            for name, entry in self._entries.items()
        }

    def _reconcile(self, name: str, wanted: DesiredVersion) -> _Entry:
        served = self._entries.get(name)
        problem = wanted.problem
        if wanted.folder:
            source = source_of(wanted.folder)
            if served and served.classifier and served.source == source:
                return _Entry(wanted, served.classifier, source, None)
            try:
                classifier = self._load(wanted.folder)
            except PackageError as exc:
                problem = _without_frames(exc)
            else:
                _log.info("deploy name %s: version %s is served", name, wanted.folder.name)
                return _Entry(wanted, classifier, source, None)
        _log.error("deploy name %s: the version wanted is not served: %s", name, problem)
        if served and served.classifier:
            return _Entry(wanted, served.classifier, served.source, problem)
        return self._fall_back(name, wanted, problem)

    def _fall_back(self, name: str, wanted: DesiredVersion, problem: PackageError | None) -> _Entry:
        """At a start: what the worker before would still serve."""
        for folder in wanted.previous:
            try:
                classifier = self._load(folder)
            except PackageError as exc:
                _log.error("deploy name %s: nor is version %s: %s", name, folder.name, exc)
            else:
                _log.warning("deploy name %s: still served is version %s", name, folder.name)
                return _Entry(wanted, classifier, source_of(folder), problem)
        return _Entry(wanted, None, "", problem)

    def _load(self, folder: Path) -> Classifier:
        try:
            package = load_package(folder)
            package = replace(package, content_key=self._unlock(package.manifest))
            return load_classifier(package, self._loader, self.queue)
        except PackageError:
            raise
        except Exception as exc:
            # Memory that does not suffice, above all: it must not end what is served.
            _log.exception("%s could not be loaded", folder)
            raise PackageError(
                str(folder), "", f"could not be loaded ({type(exc).__name__}); see the log"
            ) from exc


def _publisher_of(manifest: Manifest) -> str:
    """The public key of the publisher whose licence a package needs, empty for an open one."""
    return manifest.licence.publisher_key if manifest.licence else ""


def _publisher_in(wanted: DesiredVersion) -> str:
    if wanted.folder is None:
        return ""
    try:
        return _publisher_of(read_manifest(wanted.folder / MANIFEST_FILE)[0])
    except PackageError:
        return ""


def _without_frames(error: PackageError) -> PackageError:
    """The same error without its traceback, whose frames would keep a failed model in memory."""
    return type(error)(error.file, error.field, error.problem)
