"""What a worker serves under one deploy name: the desired version, or an earlier one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import PackageError
from app.inference.classifier import Classifier, load_classifier
from app.inference.queue import InferenceQueue
from app.inference.tuning.loader import Loader
from app.packages.manifest import MANIFEST_FILE, Manifest, read_manifest
from app.packages.package import load_package
from app.packages.store import DesiredVersion, source_of

Unlock = Callable[[Manifest], bytes | None]
"""Returns the content key of a sealed package, None for an open one, or raises LockedPackage."""

Load = Callable[[Path], Classifier]
"""Loads the version in a folder, or raises PackageError."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelEntry:
    """What is served under a deploy name.

    Attributes:
        desired: the desired version.
        publisher: public key of the publisher whose licence it needs, empty for none.
        classifier: the served version; None if none can be loaded.
        source: see source_of, for the served version.
        problem: why the desired version is not served.
    """

    desired: DesiredVersion
    publisher: str
    classifier: Classifier | None = None
    source: str = ""
    problem: PackageError | None = None

    @property
    def publishers(self) -> set[str]:
        """Publishers whose licences the desired and the served version need."""
        served = _publisher_of(self.classifier.package.manifest) if self.classifier else ""
        return {self.publisher, served} - {""}


def reconcile(
    name: str, desired: DesiredVersion, served: ModelEntry | None, load: Load
) -> ModelEntry:
    """Load the desired version of a deploy name, unless it is served already.

    If it cannot be loaded, the served version stays. If none is served, because the worker
    starts, the latest earlier version that can be loaded takes its place.
    """
    entry = ModelEntry(desired, _desired_publisher(desired), problem=desired.problem)
    if desired.folder:
        source = source_of(desired.folder)
        if served and served.classifier and served.source == source:
            return replace(entry, classifier=served.classifier, source=source)
        try:
            classifier = load(desired.folder)
        except PackageError as exc:
            entry = replace(entry, problem=_without_traceback(exc))
        else:
            _log.info("deploy name %s: version %s is served", name, desired.folder.name)
            return replace(entry, classifier=classifier, source=source)
    _log.error("deploy name %s: the desired version is not served: %s", name, entry.problem)
    if served and served.classifier:
        return replace(entry, classifier=served.classifier, source=served.source)
    return _fall_back(name, entry, load)


def _fall_back(name: str, entry: ModelEntry, load: Load) -> ModelEntry:
    for folder in entry.desired.previous:
        try:
            classifier = load(folder)
        except PackageError as exc:
            _log.error("deploy name %s: nor can version %s be served: %s", name, folder.name, exc)
        else:
            _log.warning("deploy name %s: version %s is served instead", name, folder.name)
            return replace(entry, classifier=classifier, source=source_of(folder))
    return entry


def load_version(folder: Path, loader: Loader, queue: InferenceQueue, unlock: Unlock) -> Classifier:
    """Load the classifier of a version.

    Raises:
        PackageError: it cannot be loaded, for whatever reason.
    """
    try:
        package = load_package(folder)
        package = replace(package, content_key=unlock(package.manifest))
        return load_classifier(package, loader, queue)
    except PackageError:
        raise
    except Exception as exc:
        # Out of memory, above all: the served version must stay.
        _log.exception("%s could not be loaded", folder)
        raise PackageError(
            folder, f"could not be loaded ({type(exc).__name__}); see the log"
        ) from exc


def _desired_publisher(desired: DesiredVersion) -> str:
    if desired.folder is None:
        return ""
    try:
        return _publisher_of(read_manifest(desired.folder / MANIFEST_FILE)[0])
    except PackageError:
        return ""


def _publisher_of(manifest: Manifest) -> str:
    return manifest.licence.publisher_key if manifest.licence else ""


def _without_traceback(error: PackageError) -> PackageError:
    """Copy an error: the frames of its traceback keep the model that failed in memory."""
    return type(error)(error.file, error.problem, field=error.field)
