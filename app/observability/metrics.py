"""The metrics of a worker: their names, their labels and how they are recorded."""

import logging
import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

from app.observability.metrics_folder import FOLDER_KEY, reserve_files

UNKNOWN_NAME = "_unknown"
"""The deploy_name of calls to names that are not deployed: what clients make up must not
create series. No package can have it, because names begin with a letter or digit."""

OTHER_LABEL = "_other"
"""The label of classes from index MAX_TOP_CLASSES on."""

REJECTED = "_rejected"
"""The token label of requests without a valid one; no token can be named so."""

MAX_TOP_CLASSES = 1000
"""So many series at most for each deploy name; it holds ImageNet."""

_DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
_FILE_KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemax")

_log = logging.getLogger(__name__)


class Metrics:
    """Counts and times what a worker does; safe to call from several threads at once.

    Args:
        slot: the worker's place, from 0; names its files.
        folder: of open_metrics_folder; None keeps the numbers in this process alone.
    """

    def __init__(self, slot: int = 0, folder: Path | None = None) -> None:
        self._folder = _prepare(slot, folder)
        self._registry = registry = CollectorRegistry()
        self._models_shown: set[tuple[str, ...]] = set()
        self._licences_shown: set[str] = set()
        self._worker = str(slot)
        self._requests = Counter(
            "classifyd_requests",
            "Calls of the API by the error_code answered, 0 for a result.",
            ["deploy_name", "code"],
            registry=registry,
        )
        self._shed = Counter(
            "classifyd_requests_shed",
            "Calls answered 336100: refused at once (busy), too late (late), model not loaded.",
            ["deploy_name", "reason"],
            registry=registry,
        )
        self._request_s = Histogram(
            "classifyd_request_duration_seconds",
            "Time from the first byte read by the application to the answer.",
            ["deploy_name"],
            buckets=_DURATIONS_S,
            registry=registry,
        )
        self._stage_s = Histogram(
            "classifyd_stage_duration_seconds",
            "Time of each stage of a request.",
            ["deploy_name", "stage"],
            buckets=_DURATIONS_S,
            registry=registry,
        )
        self._batch_size = Histogram(
            "classifyd_image_batch_size",
            "For each image, the number of images that were computed together with it.",
            ["deploy_name"],
            buckets=_BATCH_SIZES,
            registry=registry,
        )
        self._batch_images = Counter(
            "classifyd_batch_images",
            "Images of batch calls by the error_code answered, 0 for a result.",
            ["deploy_name", "code"],
            registry=registry,
        )
        self._top_class = Counter(
            "classifyd_top_class",
            "Images by the class of the highest score.",
            ["deploy_name", "label"],
            registry=registry,
        )
        self._top_score = Histogram(
            "classifyd_top_score",
            "The highest score of each image.",
            ["deploy_name"],
            buckets=_SCORES,
            registry=registry,
        )
        self._tokens = Counter(
            "classifyd_token_requests",
            "Requests by the name of the access token, _rejected without a valid one.",
            ["token"],
            registry=registry,
        )
        self._starts = Counter(
            "classifyd_worker_starts",
            "Workers started; each beyond the first start is a reload or a replacement.",
            registry=registry,
        )
        self._in_flight = self._sampled("classifyd_requests_in_flight", "Requests being answered.")
        self._queue_depth = self._sampled(
            "classifyd_queue_depth", "Images that wait to be prepared or computed."
        )
        self._memory = Gauge(
            "classifyd_worker_resident_memory_bytes",
            "Resident memory of each worker.",
            ["worker"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._model = Gauge(
            "classifyd_model_info",
            "1 for each model version that a worker serves, 0 for one that it served before.",
            ["deploy_name", "version", "engine", "device"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._licence_days = Gauge(
            "classifyd_licence_days_left",
            "Days until the licence of a deploy name ends; +Inf for a permanent one, "
            "0 where none covers it.",
            ["deploy_name"],
            multiprocess_mode="livemin",
            registry=registry,
        )
        # Looking a series up takes prometheus_client longer than counting in it.
        self._series = cache(lambda metric, *labels: metric.labels(*labels))
        self._starts.inc()

    def _sampled(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, multiprocess_mode="livesum", registry=self._registry)

    def count_request(self, deploy_name: str, code: int) -> None:
        """Count one answered call of the API; an empty name is an unknown one."""
        self._series(self._requests, deploy_name or UNKNOWN_NAME, code).inc()

    def count_batch_image(self, deploy_name: str, code: int) -> None:
        """Count one image of a batch call."""
        self._batch_images.labels(deploy_name, str(code)).inc()

    def count_shed(self, deploy_name: str, reason: str) -> None:
        """Count one call that was answered 336100."""
        self._series(self._shed, deploy_name, reason).inc()

    def observe_durations(
        self, deploy_name: str, total_ms: float, stages_ms: Mapping[str, float]
    ) -> None:
        """Record how long a call took, in all and by stage."""
        self._series(self._request_s, deploy_name).observe(total_ms / 1000)
        for stage, elapsed_ms in stages_ms.items():
            self._series(self._stage_s, deploy_name, stage).observe(elapsed_ms / 1000)

    def observe_result(self, deploy_name: str, index: int, label: str, score: float) -> None:
        """Record the highest score of an image and its class."""
        counted = label if index < MAX_TOP_CLASSES else OTHER_LABEL
        self._series(self._top_class, deploy_name, counted).inc()
        self._series(self._top_score, deploy_name).observe(score)

    def observe_batch(self, deploy_name: str, size: int) -> None:
        """Record how many images were computed together with one image, itself included."""
        self._series(self._batch_size, deploy_name).observe(size)

    def count_token(self, name: str) -> None:
        """Count one request by the name of its access token."""
        self._tokens.labels(name).inc()

    def count_rejected_token(self) -> None:
        """Count one request without a valid access token."""
        self._tokens.labels(REJECTED).inc()

    def show_load(self, in_flight: int, queue_depth: int, memory_bytes: int) -> None:
        """Show what this worker is busy with now."""
        self._in_flight.set(in_flight)
        self._queue_depth.set(queue_depth)
        self._memory.labels(self._worker).set(memory_bytes)

    def show_models(self, models: Mapping[str, Mapping[str, object]]) -> None:
        """Show which versions this worker serves now; see Models.describe."""
        serving = {
            (name, str(model["version"]), str(model["engine"]), str(model["device"]))
            for name, model in models.items()
        }
        for model in serving | self._models_shown:
            self._model.labels(*model).set(model in serving)
        self._models_shown |= serving

    def show_licences(self, licences: Mapping[str, Mapping[str, Any]]) -> None:
        """Show how long each licence holds; see Licences.describe."""
        for name, standing in licences.items():
            days = standing["days_left"] if standing["serves"] else 0
            self._licence_days.labels(name).set(math.inf if days is None else days)
        for name in self._licences_shown - set(licences):
            self._licence_days.labels(name).set(math.inf)  # it needs none any longer
        self._licences_shown |= set(licences)

    def exposition(self) -> bytes:
        """Write the numbers of all workers in Prometheus' text format."""
        if self._folder is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]  # untyped there
        return generate_latest(registry)


def _prepare(slot: int, folder: Path | None) -> Path | None:
    """Choose where values live, before the first metric is made."""
    if folder is not None:
        try:
            reserve_files(folder, slot, _FILE_KINDS)
        except OSError as exc:
            # The service is worth more than its numbers.
            _log.error("metrics of this worker stay its own: %s: %s", folder, exc.strerror)
            folder = None
    if folder is None:
        values.ValueClass = values.MutexValue
    else:
        os.environ[FOLDER_KEY] = str(folder)
        values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]  # untyped there
    return folder
