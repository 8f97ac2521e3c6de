"""What the views work with, behind one accessor."""

from dataclasses import dataclass

from flask import current_app

from app.access_tokens import AccessTokens
from app.api.patience import Patience
from app.api.request_log import Recorder
from app.licence.licences import Licences
from app.limits.admission import Admission
from app.limits.core_gate import CoreGate
from app.limits.decode_memory import DecodeMemoryLimiter
from app.observability.log_ids import LogIds
from app.observability.metrics import Metrics
from app.serving.registry import ModelRegistry
from app.settings import Settings

_EXTENSION = "classifyd"


@dataclass(frozen=True)
class WorkerContext:
    """The parts of a worker, joined once by ``create_app``."""

    settings: Settings
    models: ModelRegistry
    licences: Licences
    admission: Admission
    cores: CoreGate
    decode_memory: DecodeMemoryLimiter
    log_ids: LogIds
    patience: Patience
    metrics: Metrics
    recorder: Recorder
    tokens: AccessTokens | None


def current_context() -> WorkerContext:
    """Return the parts of the app that handles this request."""
    parts: WorkerContext = current_app.extensions[_EXTENSION]
    return parts
