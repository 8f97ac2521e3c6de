"""The metrics of a worker: their names, their labels and how they are recorded."""

import logging
import math
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from app.observability.metrics_folder import FOLDER_KEY, reserve_files

UNKNOWN_NAME = "_unknown"
"""The deploy_name of calls to unknown names: what clients make up must not create series. No
package can have this name, because names begin with a letter or digit."""

OTHER_LABEL = "_other"
"""The label of classes from index MAX_TOP_CLASSES on."""

REJECTED = "_rejected"
"""The token label of requests without a valid token; no token can have this name."""

MAX_TOP_CLASSES = 1000
"""Maximum number of class labels for each deploy name, enough for ImageNet."""

_TIMES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)

# Names without the namespace "classifyd"; labels separated by spaces.
_COUNTERS = {
    "requests": ("deploy_name code", "Calls of the API by error_code, 0 for a result."),
    "requests_shed": ("deploy_name reason", "Calls answered 336100: busy, late or not_loaded."),
    "batch_images": ("deploy_name code", "Images of batch calls by error_code, 0 for a result."),
    "top_class": ("deploy_name label", "Images by the class of the highest score."),
    "token_requests": ("token", "Requests by access token, _rejected without a valid one."),
    "worker_starts": ("", "Workers started; each beyond the first ones is a replacement."),
}
_HISTOGRAMS = {
    "request_duration_seconds": ("deploy_name", "Time from first byte to answer.", _TIMES_S),
    "stage_duration_seconds": ("deploy_name stage", "Time of each stage of a request.", _TIMES_S),
    "image_batch_size": ("deploy_name", "For each image, the size of its batch.", _BATCH_SIZES),
    "top_score": ("deploy_name", "The highest score of each image.", _SCORES),
}
# The last field says how the values of all workers are combined.
_GAUGES: dict[str, tuple[str, str, Literal["livesum", "livemax", "livemin"]]] = {
    "requests_in_flight": ("", "Requests being answered.", "livesum"),
    "requests_in_flight_limit": (
        "",
        "Requests that may be answered at once, max_in_flight of each worker.",
        "livesum",
    ),
    "ready": ("", "1 if /readyz answers 200 in every worker, otherwise 0.", "livemin"),
    "node_info": ("node_id", "1 for the node number in this node's log_ids.", "livemax"),
    "queue_depth": ("", "Images that wait to be prepared or computed.", "livesum"),
    "worker_resident_memory_bytes": ("worker", "Resident memory of each worker.", "livesum"),
    "model_info": (
        "deploy_name version engine device",
        "1 for each model version that a worker serves, 0 for one that it served before.",
        "livemax",
    ),
    "licence_days_left": (
        "deploy_name",
        "Days until the licence ends; +Inf for a permanent one, 0 where none covers the name.",
        "livemin",
    ),
    "tls_certificate_expiration_timestamp_seconds": (
        "filename",
        "When the TLS certificate that is served expires, in seconds since the epoch.",
        "livemin",
    ),
}
_FILE_KINDS = ("counter", "histogram", *{f"gauge_{mode}" for *_, mode in _GAUGES.values()})

_log = logging.getLogger(__name__)


class Metrics:
    """Counts and times the requests of a worker; safe to call from several threads at once.

    Args:
        slot: the worker's slot, from 0; its files are named by it.
        folder: the result of open_metrics_folder; None keeps the values in this process.
    """

    def __init__(self, slot: int = 0, folder: Path | None = None) -> None:
        self._folder = _prepare(slot, folder)
        self._registry = CollectorRegistry()
        self._worker = str(slot)
        self._models_shown: set[tuple[str, ...]] = set()
        self._licences_shown: set[str] = set()
        self._metrics = _create_metrics(self._registry)
        # prometheus_client takes longer to look a series up than to update it.
        self._series: Callable[..., Any] = cache(self._find_series)
        self._series("worker_starts").inc()

    def count_request(self, deploy_name: str, code: int) -> None:
        """Count an answered call of the API; an empty name is an unknown one."""
        self._series("requests", deploy_name or UNKNOWN_NAME, code).inc()

    def count_batch_image(self, deploy_name: str, code: int) -> None:
        """Count an image of a batch call."""
        self._series("batch_images", deploy_name, code).inc()

    def count_shed(self, deploy_name: str, reason: str) -> None:
        """Count a call that was answered 336100."""
        self._series("requests_shed", deploy_name, reason).inc()

    def observe_durations(
        self, deploy_name: str, total_ms: float, stages_ms: Mapping[str, float]
    ) -> None:
        """Record the duration of a call and of its stages."""
        self._series("request_duration_seconds", deploy_name).observe(total_ms / 1000)
        for stage, elapsed_ms in stages_ms.items():
            series = self._series("stage_duration_seconds", deploy_name, stage)
            series.observe(elapsed_ms / 1000)

    def observe_result(self, deploy_name: str, index: int, label: str, score: float) -> None:
        """Record the highest score of an image and its class."""
        counted = label if index < MAX_TOP_CLASSES else OTHER_LABEL
        self._series("top_class", deploy_name, counted).inc()
        self._series("top_score", deploy_name).observe(score)

    def observe_batch(self, deploy_name: str, size: int) -> None:
        """Record for an image the number of images in its batch, itself included."""
        self._series("image_batch_size", deploy_name).observe(size)

    def count_token(self, name: str) -> None:
        """Count a request by the name of its access token."""
        self._series("token_requests", name).inc()

    def count_rejected_token(self) -> None:
        """Count a request without a valid access token."""
        self.count_token(REJECTED)

    def show_load(self, in_flight: int, queue_depth: int, memory_bytes: int) -> None:
        """Set the gauges of this worker's load."""
        self._series("requests_in_flight").set(in_flight)
        self._series("queue_depth").set(queue_depth)
        self._series("worker_resident_memory_bytes", self._worker).set(memory_bytes)

    def show_node(self, node_id: int, max_in_flight: int) -> None:
        """Set the gauges of what this node is."""
        self._series("node_info", node_id).set(1)
        self._series("requests_in_flight_limit").set(max_in_flight)

    def show_models(self, models: Mapping[str, Mapping[str, object]], is_ready: bool) -> None:
        """Set the gauges of the versions that this worker serves; see ModelRegistry.describe."""
        self._series("ready").set(is_ready)
        serving = {
            (name, str(model["version"]), str(model["engine"]), str(model["device"]))
            for name, model in models.items()
        }
        for model in serving | self._models_shown:
            self._series("model_info", *model).set(model in serving)
        self._models_shown |= serving

    def show_licences(self, licences: Mapping[str, Mapping[str, Any]]) -> None:
        """Set the gauges of the days that licences last; see Licences.describe."""
        for name, standing in licences.items():
            days = standing["days_left"] if standing["serves"] else 0
            self._set_days_left(name, math.inf if days is None else days)
        for name in self._licences_shown - set(licences):
            self._set_days_left(name, math.inf)  # no longer needs a licence
        self._licences_shown |= set(licences)

    def show_certificate(self, path: str, not_after: float) -> None:
        """Set the gauge of the end of the TLS certificate, in seconds since the epoch."""
        name = "tls_certificate_expiration_timestamp_seconds"
        self._series(name, Path(path).name).set(not_after)

    def _set_days_left(self, deploy_name: str, days: float) -> None:
        self._series("licence_days_left", deploy_name).set(days)

    def _find_series(self, name: str, *labels: object) -> Any:
        return self._metrics[name].labels(*labels) if labels else self._metrics[name]

    def exposition(self) -> bytes:
        """Return the values of all workers in Prometheus' text format."""
        return generate_latest(self._registry_of_all())

    def total_requests(self) -> int:
        """Return the number of calls of the API that all workers have answered."""
        samples = (s for family in self._registry_of_all().collect() for s in family.samples)
        return int(sum(s.value for s in samples if s.name == "classifyd_requests_total"))

    def _registry_of_all(self) -> CollectorRegistry:
        if self._folder is None:
            return self._registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]  # untyped there
        return registry


def _create_metrics(registry: CollectorRegistry) -> dict[str, Counter | Histogram | Gauge]:
    common: Any = {"namespace": "classifyd", "registry": registry}
    metrics: dict[str, Counter | Histogram | Gauge] = {
        name: Counter(name, text, labels.split(), **common)
        for name, (labels, text) in _COUNTERS.items()
    }
    for name, (labels, text, buckets) in _HISTOGRAMS.items():
        metrics[name] = Histogram(name, text, labels.split(), buckets=buckets, **common)
    for name, (labels, text, mode) in _GAUGES.items():
        metrics[name] = Gauge(name, text, labels.split(), multiprocess_mode=mode, **common)
    return metrics


def _prepare(slot: int, folder: Path | None) -> Path | None:
    """Configure where prometheus_client stores values; must precede the first metric."""
    if folder is not None:
        try:
            reserve_files(folder, slot, _FILE_KINDS)
        except OSError as exc:
            # The service must start, with or without shared metrics.
            _log.error("metrics of this worker are not shared: %s: %s", folder, exc.strerror)
            folder = None
    if folder is None:
        values.ValueClass = values.MutexValue
    else:
        os.environ[FOLDER_KEY] = str(folder)
        values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]  # untyped there
    return folder
