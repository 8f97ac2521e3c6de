"""Health, readiness and metrics: cheap, outside the queue."""

from typing import Any

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from app.api.access import authorize, may_see_models
from app.api.answers import json_response
from app.api.context import current_context
from app.api.trace import current_trace

blueprint = Blueprint("status", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Say that the process answers."""
    return json_response({"status": "ok"})


@blueprint.get("/readyz")
def readyz() -> Response:
    """Say whether there is a model and every deploy name can be served, and if not, why.

    With access tokens, a caller without one learns the first alone: the rest names the models.
    """
    context = current_context()
    models = context.models
    is_ready = models.is_ready()
    payload: dict[str, Any] = {"ready": is_ready, "awaits_licence": models.awaits_licence()}
    if may_see_models(context):
        payload |= {
            "serving": models.describe(),
            "reasons": models.problems(),
            # An earlier version answers: worth an alarm, no reason to send requests elsewhere.
            "pending": models.pending(),
            # Without effect on readiness while another deploy name is served.
            "licences": context.licences.describe(),
        }
    return json_response(payload, 200 if is_ready else 503)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Write the numbers of all workers for Prometheus."""
    context = current_context()
    authorize(context, current_trace())
    return Response(context.metrics.exposition(), content_type=CONTENT_TYPE_PLAIN_0_0_4)
