"""The console: a page on which a person tries the models, and what only it asks for."""

from dataclasses import asdict, is_dataclass
from typing import Any

from flask import Blueprint, Response, request

from app.api.access import authorize
from app.api.answers import json_response
from app.api.bodies import decode_base64, parse_json, read_body
from app.api.context import current_context
from app.api.pages import html_page
from app.api.schemas import validate_classify_request
from app.api.trace import current_trace
from app.imaging.decode import decode
from app.imaging.encode import encode_png
from app.imaging.guard import guard
from app.imaging.steps import Step
from app.inference.classifier import deadline_after
from app.packages.package import Package

blueprint = Blueprint("console", __name__)


@blueprint.get("/")
def console() -> Response:
    """Write the page; everything else it loads by itself."""
    return html_page("console.html", tokens=current_context().tokens is not None)


@blueprint.get("/console/models")
def models() -> Response:
    """List what can be called: labels, versions and preprocessing."""
    parts = current_context()
    authorize(parts, current_trace())
    serving = parts.models
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
    parts, environ = current_context(), request.environ
    package = parts.models.get(deploy_name).package
    authorize(parts, current_trace())
    with parts.admission.admit():
        body = read_body(environ, parts.patience)
        deadline = deadline_after(parts.settings.deadline_ms)
        with parts.cores.prepare(deadline):
            payload = parse_json(body, environ.get("CONTENT_TYPE", ""))
            header, data = guard(decode_base64(validate_classify_request(payload).image))
            with parts.decode_memory.reserve(header.width, header.height, deadline):
                seen = package.preprocessor.fit(decode(header, data, package.reduction(header)))
            return Response(encode_png(seen), content_type="image/png")
