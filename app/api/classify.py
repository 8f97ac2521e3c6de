"""The API: one image in, its classes out."""

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from flask import Blueprint, Response, request

from app.api.access import authorize
from app.api.answers import json_response
from app.api.bodies import decode_base64, parse_json
from app.api.context import WorkerContext, current_context
from app.api.received import admitted_body, current_received
from app.api.schemas import validate_classify_request
from app.api.trace import Trace, current_trace
from app.imaging.header import ImageHeader
from app.inference.preparation import prepare_image
from app.inference.scores import rank

blueprint = Blueprint("classify", __name__)

_Result = TypeVar("_Result")


@blueprint.post("/<deploy_name>/ImageClassification", strict_slashes=False)
def classify(deploy_name: str) -> Response:
    """Answer one request: admit, parse, validate, decode, preprocess, infer, answer."""
    context, trace = current_context(), current_trace()
    trace.deploy_name = deploy_name
    # First: without a token, no answer tells a deploy name that exists from another one.
    authorize(context, trace)
    classifier = context.models.get(deploy_name)
    context.licences.require(classifier.package.manifest)
    trace.version = classifier.package.manifest.version
    body = admitted_body(context.admission.refusal())
    deadline = context.deadline_of(current_received())

    with context.cores.prepare(deadline) as waited_ms:
        with trace.stage("parse"):
            payload = parse_json(body, request.environ.get("CONTENT_TYPE", ""))
            fields = validate_classify_request(payload)
        with trace.stage("base64"):
            image_bytes = decode_base64(fields.image)
        run = partial(_run_decoder, context, trace, deadline)
        _, model_input = prepare_image(
            image_bytes, classifier.package, trace.stage, run, trace.note_remark
        )
    inference = classifier.infer(model_input, deadline, in_caller=True)
    trace.note_inference(inference, classifier.package.labels, waited_ms)

    results = rank(inference.scores, classifier.package.labels, fields.top_num)
    return json_response({"log_id": trace.log_id, "results": results})


def _run_decoder(
    context: WorkerContext,
    trace: Trace,
    deadline: float,
    header: ImageHeader,
    decoder: Callable[[], _Result],
    /,
) -> _Result:
    """Note what image it is, and how long it waits to be decoded."""
    trace.image = header.description
    asked = time.monotonic()

    def decode() -> _Result:
        trace.queue_ms += (time.monotonic() - asked) * 1000
        return decoder()

    return context.run_decoder(deadline, header, decode)
