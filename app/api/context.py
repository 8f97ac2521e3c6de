"""What the views work with, behind one accessor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from flask import current_app

from app.access_tokens import AccessTokens
from app.api.received import ReceivedRequest
from app.api.request_log import Recorder
from app.imaging.header import ImageHeader
from app.inference.watchdog import Watchdog
from app.licence.licences import Licences
from app.limits.admission import Admission
from app.limits.body_memory import BodyMemory
from app.limits.core_gate import CoreGate
from app.limits.costly_images import CostlyImages
from app.limits.decode_memory import DecodeMemoryLimiter
from app.observability.log_ids import LogIds
from app.observability.metrics import Metrics
from app.serving.registry import ModelRegistry
from app.settings import Settings

EXTENSION = "classifyd"
"""The key of the context in ``app.extensions``."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class WorkerContext:
    """The context of a worker, joined once by ``create_app``."""

    settings: Settings
    models: ModelRegistry
    licences: Licences
    admission: Admission
    body_memory: BodyMemory
    cores: CoreGate
    decode_memory: DecodeMemoryLimiter
    costly_images: CostlyImages
    log_ids: LogIds
    metrics: Metrics
    recorder: Recorder
    tokens: AccessTokens | None
    watchdog: Watchdog
    image_threads: int

    def run_decoder(
        self, deadline: float, header: ImageHeader, decoder: Callable[[], _Result], /
    ) -> _Result:
        """Run what decodes an image where there is memory, and aside if it takes long.

        Raises:
            ModelUnavailable: the deadline passed, or too many costly images wait.
        """
        if header.is_costly:
            return self.costly_images.run(header.width, header.height, deadline, decoder)
        with self.decode_memory.reserve(header.width, header.height, deadline):
            return decoder()

    def deadline_of(self, received: ReceivedRequest) -> float:
        """The time.monotonic() until which a request may wait for the model."""
        return received.completed + self.settings.deadline_ms / 1000


def current_context() -> WorkerContext:
    """Return the context of the app that handles this request."""
    context: WorkerContext = current_app.extensions[EXTENSION]
    return context
