"""The classifiers that one worker serves, by deploy name."""

import logging
from pathlib import Path

from app.errors import InvalidDeployName, ModelUnavailable, PackageError
from app.inference.classifier import Classifier, load_classifier
from app.inference.queue import InferenceQueue
from app.packages.package import load_package
from app.packages.store import active_versions

_log = logging.getLogger(__name__)


class Models:
    """Every deploy name with its classifier, or the reason why it has none.

    Args:
        weights_dir: folder of the packages.
        device: ``cpu`` or ``cuda:N``.
        inference_threads: how many inferences run at once.
    """

    def __init__(self, weights_dir: Path, device: str, inference_threads: int) -> None:
        self.device = device
        self.queue = InferenceQueue(inference_threads)
        self._classifiers: dict[str, Classifier] = {}
        self._broken: dict[str, PackageError] = {}
        self._load(weights_dir)

    def get(self, deploy_name: str) -> Classifier:
        """Return the classifier of a deploy name.

        Raises:
            InvalidDeployName: no package has this name.
            ModelUnavailable: its package could not be loaded.
        """
        classifier = self._classifiers.get(deploy_name)
        if classifier is not None:
            return classifier
        if deploy_name in self._broken:
            raise ModelUnavailable("the model of this deploy name could not be loaded", 60)
        raise InvalidDeployName("no model is deployed under this name")

    def require_any(self) -> None:
        """Refuse to go on with nothing to serve.

        Raises:
            PackageError: the first problem, when no deploy name can be served.
        """
        if not self._classifiers and self._broken:
            raise next(iter(self._broken.values()))

    def describe(self) -> dict[str, dict[str, str]]:
        """For each deploy name that can be called, what answers it."""
        return {
            name: {
                "version": classifier.package.manifest.version,
                "engine": classifier.engine.name,
                "device": classifier.engine.device,
            }
            for name, classifier in sorted(self._classifiers.items())
        }

    def problems(self) -> dict[str, str]:
        """For each deploy name that cannot be served, why."""
        return {name: str(error) for name, error in self._broken.items()}

    def _load(self, weights_dir: Path) -> None:
        listing = active_versions(weights_dir)
        for name, error in listing.broken.items():
            self._reject(name, error)
        for name, folder in listing.active.items():
            try:
                self._classifiers[name] = load_classifier(
                    load_package(folder), self.device, self.queue
                )
            except PackageError as exc:
                self._reject(name, exc)

    def _reject(self, name: str, error: PackageError) -> None:
        _log.error("deploy name %s is not served: %s", name, error)
        self._broken[name] = error
