"""The console: a page on which a person tries the models, and what only it asks for."""

from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from mimetypes import guess_type
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, request

from app.api.access import authorize, may_see_models
from app.api.answers import json_response
from app.api.bodies import decode_base64, parse_json
from app.api.context import WorkerContext, current_context
from app.api.pages import html_page
from app.api.received import admitted_body, current_received
from app.api.schemas import validate_classify_request
from app.api.trace import current_trace
from app.errors import PackageError
from app.folders import MANUAL
from app.imaging.encode import encode_png
from app.inference.classifier import Classifier
from app.inference.preparation import preview_image
from app.inference.tuning.selection import SelectionStore, engine_requirements
from app.packages.package import Package
from app.packages.store import previous_versions, visible_folders
from app.system.files import read_regular

MAX_SAMPLES = 6
"""Sample images of a model that the page offers."""

blueprint = Blueprint("console", __name__)


@blueprint.get("/")
def console() -> Response:
    """Write the page; everything else it loads by itself."""
    return html_page(
        "console.html",
        tokens=current_context().tokens is not None,
        version=version("classifyd"),
        manual=MANUAL.is_dir(),
    )


@blueprint.get("/console/status")
def status() -> Response:
    """Describe the server for the status line of the page, which asks every few seconds.

    With access tokens, a caller without one learns only whether it is ready.
    """
    context = current_context()
    serving = context.models.describe()
    payload: dict[str, Any] = {"ready": bool(serving) and not context.models.problems()}
    if may_see_models(context):
        payload |= {"serving": serving, "requests": context.metrics.total_requests()}
    return json_response(payload)


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
        "sealed": package.sealed,
        "input": asdict(manifest.input),
        "output": asdict(manifest.output),
        "preprocess": manifest.preprocess_json,
        "golden": manifest.golden
        and {"samples": len(manifest.golden.samples), "tolerance": manifest.golden.tolerance},
        "samples": len(sample_images(package)),
        "labels": package.labels,
    }


@blueprint.get("/console/models/<deploy_name>")
def model(deploy_name: str) -> Response:
    """Describe what only the page of one model shows: versions, engines and training."""
    context = current_context()
    authorize(context, current_trace())
    classifier = context.models.get(deploy_name)
    return json_response(
        {
            "versions": _describe_versions(context, deploy_name, classifier),
            "engines": _describe_engines(context, classifier),
            "training": classifier.package.manifest.training,
        }
    )


def _describe_versions(
    context: WorkerContext, deploy_name: str, classifier: Classifier
) -> list[dict[str, Any]]:
    """List the installed versions; ``previous`` are those that a rollback goes back to."""
    folder = context.settings.weights_dir / deploy_name
    try:
        names, previous = list(visible_folders(folder)), previous_versions(folder)
    except PackageError:  # removed meanwhile
        return []
    served = classifier.package.manifest.version
    return [
        {"version": name, "served": name == served, "previous": name in previous} for name in names
    ]


def _describe_engines(context: WorkerContext, classifier: Classifier) -> dict[str, Any] | None:
    """Describe the measurements that selected the engine; None where nothing was measured."""
    requirements = engine_requirements(context.settings, classifier.engine.device)
    store = SelectionStore(context.settings.state_dir, classifier.package, requirements)
    selection = store.read()
    return asdict(selection) if selection else None


@blueprint.get("/console/samples/<deploy_name>/<int:index>")
def sample(deploy_name: str, index: int) -> Response:
    """Answer a sample image of a model, from 0."""
    context = current_context()
    authorize(context, current_trace())
    images = sample_images(context.models.get(deploy_name).package)
    try:
        data = read_regular(images[index])
    except (IndexError, OSError):  # the version was removed meanwhile
        abort(404)
    kind = guess_type(images[index].name)[0] or "application/octet-stream"
    response = Response(data, content_type=kind)
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def sample_images(package: Package) -> tuple[Path, ...]:
    """Return the golden samples of an open package, else the photos of the builder.

    The images of a sealed package are its publisher's.
    """
    if package.golden and not package.sealed:
        return package.golden.images[:MAX_SAMPLES]
    photos = Path(str(files("app.packages") / "photos"))
    return tuple(sorted(photos.glob("*.jpg")))


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
