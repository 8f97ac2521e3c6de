"""The API: one image in, its classes out."""

from flask import Blueprint, Response, request

from app.api.answers import json_response
from app.api.bodies import parse_json
from app.api.calls import admit, prepare
from app.api.context import current_context
from app.api.received import current_received
from app.api.schemas import validate_classify_request
from app.api.trace import current_trace
from app.inference.scores import rank

blueprint = Blueprint("classify", __name__)


@blueprint.post("/<deploy_name>/ImageClassification", strict_slashes=False)
def classify(deploy_name: str) -> Response:
    """Answer one request: admit, parse, validate, decode, preprocess, infer, answer."""
    context, trace = current_context(), current_trace()
    classifier, body = admit(context, trace, deploy_name)
    package, deadline = classifier.package, context.deadline_of(current_received())

    with context.cores.prepare(deadline) as waited_ms:
        with trace.stage("parse"):
            payload = parse_json(body, request.environ.get("CONTENT_TYPE", ""))
            fields = validate_classify_request(payload)
        _, model_input = prepare(context, trace, package, fields.image, deadline)
    inference = classifier.infer(model_input, deadline, in_caller=True)
    trace.note_inference(inference, package.labels, waited_ms)

    results = rank(inference.scores, package.labels, fields.top_num)
    return json_response({"log_id": trace.log_id, "results": results})
