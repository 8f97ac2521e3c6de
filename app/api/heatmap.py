"""Why this class: a heat map of one image on request."""

import time
from functools import partial

from flask import Blueprint, Response, request

from app.api.answers import json_response
from app.api.bodies import parse_json
from app.api.calls import admit, prepare
from app.api.context import current_context
from app.api.received import current_received
from app.api.schemas import validate_heatmap_request
from app.api.trace import current_trace
from app.inference.classifier import Classifier
from app.inference.engines.base import FloatArray
from app.inference.explanation import explain, require_label
from app.limits.core_gate import CoreGate

DECIMALS = 4

PAUSES = 2
"""Beside other callers a heat map pauses twice as long as it computes. Its inferences need no
preparation, so without pauses they would take more than the share of one caller."""

blueprint = Blueprint("heatmap", __name__)


@blueprint.post("/<deploy_name>/ImageClassification/heatmap", strict_slashes=False)
def heatmap(deploy_name: str) -> Response:
    """Answer one request: as one for the classes, with many inferences in place of one."""
    context, trace = current_context(), current_trace()
    classifier, body = admit(context, trace, deploy_name)
    package, deadline = classifier.package, context.deadline_of(current_received())

    with context.cores.prepare(deadline):
        with trace.stage("parse"):
            payload = parse_json(body, request.environ.get("CONTENT_TYPE", ""))
            fields = validate_heatmap_request(payload)
            require_label(package.labels, fields.label)
        prepared = prepare(context, trace, package, fields.image, deadline)
    # The other half of the time is left for whoever waits for this thread.
    until = (time.monotonic() + deadline) / 2
    with trace.stage("heatmap"):
        score = partial(_score, context.cores, classifier, deadline)
        explanation = explain(score, package, prepared, fields.label, until)
    trace.top = explanation.name
    trace.image += f", {explanation.passes} passes"
    rows, columns = explanation.heat.shape
    return json_response(
        {
            "log_id": trace.log_id,
            "name": explanation.name,
            "score": explanation.score,
            "rows": rows,
            "cols": columns,
            "heat": explanation.heat.round(DECIMALS).tolist(),
        }
    )


def _score(
    cores: CoreGate, classifier: Classifier, deadline: float, model_input: FloatArray
) -> FloatArray:
    """Compute one of many inferences, and pause where other callers are there."""
    inference = classifier.infer(model_input, deadline, in_caller=True)
    if cores.is_contended():
        time.sleep(PAUSES * inference.infer_ms / 1000)
    return inference.scores
