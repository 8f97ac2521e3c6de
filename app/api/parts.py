"""What the views work with, behind one accessor."""

from dataclasses import dataclass

from flask import current_app

from app.api.patience import Patience
from app.api.recording import Recorder
from app.inference.admission import Admission
from app.inference.cores import Cores
from app.inference.decode_budget import DecodeBudget
from app.inference.models import Models
from app.licence.licences import Licences
from app.log_ids import LogIds
from app.metrics.record import Metrics
from app.settings import Settings
from app.tokens import TokenList

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
