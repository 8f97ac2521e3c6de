"""Several images in one call: for each an answer or an error of its own, in order."""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from app.api.answers import json_response
from app.api.bodies import decode_base64, parse_json
from app.api.calls import admit
from app.api.context import WorkerContext, current_context
from app.api.schemas import validate_batch_request, validate_classify_request
from app.api.trace import current_trace
from app.errors import ApiError, InternalError
from app.inference.classifier import Classifier, Inference, deadline_after
from app.inference.preparation import prepare_image
from app.inference.scores import rank
from app.reporting.counts import pluralise

PARALLEL_IMAGES = 4
"""Maximum number of images of one call that are processed at once."""

_log = logging.getLogger(__name__)

blueprint = Blueprint("batch", __name__)


@blueprint.post("/<deploy_name>/ImageClassification/batch", strict_slashes=False)
def classify_batch(deploy_name: str) -> Response:
    """Answer one call: admit, parse, validate, then each image as for a single one."""
    context, trace = current_context(), current_trace()
    classifier, body = admit(context, trace, deploy_name)

    with trace.stage("parse"):
        payload = parse_json(body, request.environ.get("CONTENT_TYPE", ""))
        fields = validate_batch_request(payload)
    answer = partial(_answer, context, classifier, trace.log_id, fields.top_num)
    with trace.stage("images"), ThreadPoolExecutor(PARALLEL_IMAGES) as pool:
        answers = list(pool.map(answer, fields.images))
    failed = sum("error_code" in entry for entry in answers)
    trace.image = f"{pluralise(len(answers), 'image')}, {failed} failed"
    return json_response({"log_id": trace.log_id, "answers": answers})


def _answer(
    context: WorkerContext, classifier: Classifier, log_id: int, top_num: int, image: object
) -> dict[str, Any]:
    """Answer one image; runs outside the request's context."""
    name, labels = classifier.package.manifest.name, classifier.package.labels
    try:
        inference = _classify(context, classifier, image)
    except Exception as exc:
        error = exc if isinstance(exc, ApiError) else InternalError("an unexpected failure")
        if isinstance(error, InternalError):
            _log.error("log_id %d failed", log_id, exc_info=exc)
        context.metrics.count_batch_image(name, error.error_code)
        return {
            "error_code": error.error_code,
            "error_msg": error.error_msg,
            "error_detail": error.detail,
        }
    top = int(inference.scores.argmax())
    context.metrics.count_batch_image(name, 0)
    context.metrics.observe_batch(name, inference.batch_size)
    context.metrics.observe_result(name, top, labels[top], float(inference.scores[top]))
    return {"results": rank(inference.scores, labels, top_num)}


def _classify(context: WorkerContext, classifier: Classifier, image: object) -> Inference:
    deadline = deadline_after(context.settings.deadline_ms)
    text = validate_classify_request({"image": image}).image
    run = partial(context.run_decoder, deadline)
    with context.cores.prepare(deadline):
        _, model_input = prepare_image(decode_base64(text), classifier.package, run=run)
    return classifier.infer(model_input, deadline)
