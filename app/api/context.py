"""What the views work with, behind one accessor."""

from dataclasses import dataclass

from flask import current_app

from app.access_tokens import TokenList
from app.api.patience import Patience
from app.api.request_log import Recorder
from app.licence.licences import Licences
from app.limits.admission import Admission
from app.limits.core_gate import Cores
from app.limits.decode_memory import DecodeBudget
from app.observability.log_ids import LogIds
from app.observability.metrics import Metrics
from app.serving.registry import Models
from app.settings import Settings

_EXTENSION = "classifyd"


@dataclass(frozen=True)
class Parts:
    """The parts of a worker, joined once by ``create_app``."""

    settings: Settings
    models: Models
    licences: Licences
    admission: Admission
    cores: Cores
    decode_budget: DecodeBudget
    log_ids: LogIds
    patience: Patience
    metrics: Metrics
    recorder: Recorder
    tokens: TokenList | None


def current_parts() -> Parts:
    """Return the parts of the app that handles this request."""
    parts: Parts = current_app.extensions[_EXTENSION]
    return parts
