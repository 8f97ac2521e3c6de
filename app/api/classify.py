"""The API: one image in, its classes out."""

from flask import Blueprint, Response, request

from app.api.access import authorize
from app.api.answers import json_response
from app.api.bodies import decode_base64, parse_json, read_body
from app.api.context import current_context
from app.api.schemas import validate_classify_request
from app.api.trace import current_trace
from app.imaging.decode import decode
from app.imaging.guard import guard
from app.inference.classifier import deadline_after
from app.inference.scores import rank

blueprint = Blueprint("classify", __name__)


@blueprint.post("/<deploy_name>/ImageClassification", strict_slashes=False)
def classify(deploy_name: str) -> Response:
    """Answer one request: admit, parse, validate, decode, preprocess, infer, answer."""
    parts, trace, environ = current_context(), current_trace(), request.environ
    trace.deploy_name = deploy_name
    classifier = parts.models.get(deploy_name)
    parts.licences.require(classifier.package.manifest)
    trace.version = classifier.package.manifest.version
    authorize(parts, trace)

    with parts.admission.admit():
        with trace.stage("read"):
            body = read_body(environ, parts.patience)
        # From here on: how long a client takes to send is not the model's delay.
        deadline = deadline_after(parts.settings.deadline_ms)
        with parts.cores.prepare(deadline) as waited_ms:
            with trace.stage("parse"):
                payload = parse_json(body, environ.get("CONTENT_TYPE", ""))
                fields = validate_classify_request(payload)
            with trace.stage("base64"):
                data = decode_base64(fields.image)
            with trace.stage("guard"):
                header, data = guard(data)
                trace.image = f"{header.format} {header.width}x{header.height}"
            with parts.decode_memory.reserve(header.width, header.height, deadline):
                with trace.stage("decode"):
                    pixels = decode(header, data, classifier.package.reduction(header))
                with trace.stage("preprocess"):
                    image = classifier.package.preprocessor(pixels)
                # Up to 60 MB, which whoever waits for the model must not hold.
                top_num = fields.top_num
                del body, payload, fields, data, pixels
        inference = classifier.infer(image, deadline, in_caller=True)
        trace.note_inference(inference, classifier.package.labels, waited_ms)

    results = rank(inference.scores, classifier.package.labels, top_num)
    return json_response({"log_id": trace.log_id, "results": results})
