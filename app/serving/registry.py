"""The classifiers that one worker serves, by deploy name."""

import logging
import re
from functools import partial
from pathlib import Path

from app.errors import (
    AuthFailed,
    InvalidDeployName,
    LockedPackage,
    ModelUnavailable,
    TamperedPackage,
)
from app.inference.classifier import Classifier
from app.inference.queue import HUNG_DETAIL, InferenceQueue
from app.inference.tuning.loader import Loader
from app.packages.store import desired_versions
from app.serving.reconciliation import ModelEntry, Unlock, load_version, reconcile
from app.serving.status_file import NameStatus

_PARENTS = re.compile(r"(?<![\w.])/(?=[\w.@])([\w.@+~-]+/)*")
"""The folders of an absolute path."""

_log = logging.getLogger(__name__)


class ModelRegistry:
    """Every deploy name with its classifier, or the reason why it has none.

    Only ``refresh`` changes what is served, by assigning one reference: a request keeps the
    classifier that it has got, and the last request frees the model.

    Raises:
        PackageError: the weights folder cannot be read.
    """

    def __init__(
        self, weights_dir: Path, loader: Loader, queue: InferenceQueue, unlock: Unlock
    ) -> None:
        self.queue = queue
        self._weights_dir = weights_dir
        self._load = partial(load_version, loader=loader, queue=queue, unlock=unlock)
        self._retry: set[str] = set()
        self._entries: dict[str, ModelEntry] = {}
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
        """Serve the desired versions of the weights folder; not safe to call concurrently.

        A new version is loaded and warmed up before it replaces the served one; see reconcile.

        Returns:
            Whether anything has changed.

        Raises:
            PackageError: the weights folder cannot be read; nothing has changed.
        """
        desired = desired_versions(self._weights_dir)
        retry = set(self._retry)
        self._retry -= retry
        removed = self._entries.keys() - desired.keys()
        changed = [
            name
            for name, version in desired.items()
            if name in retry
            or name not in self._entries
            or self._entries[name].desired.generation != version.generation
        ]
        if removed:
            _log.info("no longer served, because removed: %s", ", ".join(sorted(removed)))
            self._entries = {n: entry for n, entry in self._entries.items() if n not in removed}
        for name in changed:
            entry = reconcile(name, desired[name], self._entries.get(name), self._load)
            self._entries = {**self._entries, name: entry}
        return bool(removed or changed)

    def retry(self, name: str) -> None:
        """Make the next refresh load the desired version of a deploy name again."""
        self._retry.add(name)

    def require_any(self) -> None:
        """Require a deploy name that is served or waits for a licence.

        Raises:
            PackageError: the first problem, if there is no such name.
        """
        problems = [entry.problem for entry in self._entries.values() if entry.problem]
        is_licence_awaited = any(isinstance(problem, LockedPackage) for problem in problems)
        is_any_served = any(entry.classifier for entry in self._entries.values())
        if problems and not is_any_served and not is_licence_awaited:
            raise problems[0]

    def describe(self) -> dict[str, dict[str, str | float | None]]:
        """Describe the model of each deploy name that is served.

        ``worst_difference`` is the maximum difference of a score from the package's golden
        samples, None for a package without any.
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
        """Return the publishers whose licences each deploy name needs; see ModelEntry."""
        return {name: entry.publishers for name, entry in self._entries.items()}

    def problems(self) -> dict[str, str]:
        """Return why deploy names cannot be served.

        A missing licence is not a problem of the server while it serves another name.
        """
        if self.queue.is_hung:
            return dict.fromkeys(self._entries, HUNG_DETAIL)
        unserved = {name: entry for name, entry in self._entries.items() if not entry.classifier}
        is_any_served = len(unserved) < len(self._entries)
        return {
            name: self._describe_problem(entry)
            for name, entry in unserved.items()
            if not (is_any_served and isinstance(entry.problem, LockedPackage))
        }

    def is_ready(self) -> bool:
        """Whether there is a model, and no deploy name has a problem."""
        return any(entry.classifier for entry in self._entries.values()) and not self.problems()

    def awaits_licence(self) -> bool:
        """Whether there are models, and none is served because each lacks a licence."""
        entries = self._entries.values()
        return bool(entries) and all(
            entry.classifier is None and isinstance(entry.problem, LockedPackage)
            for entry in entries
        )

    def pending(self) -> dict[str, dict[str, str]]:
        """Return the desired version, and why it is not served, where an earlier one is."""
        return {
            name: {
                "version": entry.desired.folder.name if entry.desired.folder else "",
                "reason": self._describe_problem(entry),
            }
            for name, entry in self._entries.items()
            if entry.classifier and entry.problem
        }

    def _describe_problem(self, entry: ModelEntry) -> str:
        """Describe a problem to callers: files relative to the weights folder, or by name."""
        return _PARENTS.sub("", str(entry.problem).replace(f"{self._weights_dir}/", ""))

    def status(self) -> dict[str, NameStatus]:
        """Return the status of each deploy name for ``activate --wait``."""
        return {
            name: NameStatus(
                entry.desired.generation,
                entry.classifier.package.manifest.version if entry.classifier else "",
                str(entry.problem or ""),
            )
            for name, entry in self._entries.items()
        }
