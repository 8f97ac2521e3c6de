"""What the views of the API have in common: who may call, and from base64 to the model's input."""

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from app.api.access import authorize
from app.api.bodies import decode_base64
from app.api.context import WorkerContext
from app.api.received import admitted_body
from app.api.trace import Trace
from app.imaging.header import ImageHeader
from app.imaging.preprocess import FloatArray
from app.inference.classifier import Classifier
from app.inference.preparation import prepare_image
from app.packages.package import Package

_Result = TypeVar("_Result")


def admit(context: WorkerContext, trace: Trace, deploy_name: str) -> tuple[Classifier, bytes]:
    """Check what comes before the body in the contract's order of checks.

    Returns:
        What serves the deploy name, and the whole body of the current request.

    Raises:
        ApiError: see authorize, ModelRegistry.get, Licences.require and admitted_body.
    """
    trace.deploy_name = deploy_name
    # First: without a token, no answer tells a deploy name that exists from another one.
    authorize(context, trace)
    classifier = context.models.get(deploy_name)
    context.licences.require(classifier.package.manifest)
    trace.version = classifier.package.manifest.version
    return classifier, admitted_body(context.admission.refusal())


def prepare(
    context: WorkerContext, trace: Trace, package: Package, image: str, deadline: float
) -> tuple[ImageHeader, FloatArray]:
    """Decode base64, then guard, decode and preprocess, each a stage of the trace.

    Args:
        context: the worker's.
        trace: of the current request; learns what image it is, and how long it waits.
        package: see prepare_image.
        image: base64.
        deadline: time.monotonic() until which it may wait.

    Returns:
        See prepare_image.

    Raises:
        ApiError: see decode_base64, prepare_image and WorkerContext.run_decoder.
    """
    with trace.stage("base64"):
        image_bytes = decode_base64(image)
    run = partial(_run_decoder, context, trace, deadline)
    return prepare_image(image_bytes, package, trace.stage, run, trace.note_remark)


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
