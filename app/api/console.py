"""The console: a page on which a person tries the models, and what only it asks for."""

from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from app.api.access import authorize
from app.api.answers import json_response
from app.api.bodies import decode_base64, parse_json
from app.api.context import current_context
from app.api.pages import html_page
from app.api.received import admitted_body, current_received
from app.api.schemas import validate_classify_request
from app.api.trace import current_trace
from app.imaging.encode import encode_png
from app.imaging.steps import Step
from app.inference.preparation import preview_image
from app.packages.package import Package

blueprint = Blueprint("console", __name__)


@blueprint.get("/")
def console() -> Response:
    """Write the page; everything else it loads by itself."""
    return html_page("console.html", tokens=current_context().tokens is not None)


@blueprint.get("/console/models")
def models() -> Response:
    """List what can be called: labels, versions and preprocessing."""
    context = current_context()
    authorize(context, current_trace())
    serving = context.models
    described = [
        {"name": name, **engine, **_describe(serving.get(name).package)}
        for name, engine in serving.describe().items()
    ]
    return json_response({"models": described, "broken": sorted(serving.problems())})


def _describe(package: Package) -> dict[str, Any]:
    manifest = package.manifest
    return {
        "digest": package.digest,
        "input": asdict(manifest.input),
        "output": asdict(manifest.output),
        "preprocess": [_describe_step(step) for step in manifest.preprocess],
        "golden": manifest.golden
        and {"samples": len(manifest.golden.samples), "tolerance": manifest.golden.tolerance},
        "labels": package.labels,
    }


def _describe_step(step: Step) -> dict[str, Any]:
    assert is_dataclass(step)  # noqa: S101 - every step is
    return {"step": type(step).__name__, **asdict(step)}


@blueprint.post("/console/preview/<deploy_name>")
def preview(deploy_name: str) -> Response:
    """Answer the image as the model sees it: decoded, turned, cropped and resized, a png."""
    context = current_context()
    authorize(context, current_trace())
    package = context.models.get(deploy_name).package
    body = admitted_body(context.admission.refusal())
    payload = parse_json(body, request.environ.get("CONTENT_TYPE", ""))
    image_bytes = decode_base64(validate_classify_request(payload).image)
    deadline = context.deadline_of(current_received())
    run = partial(context.run_decoder, deadline)
    with context.cores.prepare(deadline):
        seen = preview_image(image_bytes, package, run)
    return Response(encode_png(seen), content_type="image/png")
