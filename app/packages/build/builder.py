"""Builds a package from a model, labels and a preprocessing, and checks it against them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from app.errors import OperatorError, PackageError
from app.imaging.header import OrientationRule
from app.imaging.steps import Color, Step, fixed_output_size, geometry_of
from app.packages.build.golden import (
    EXACT_TOLERANCE,
    FAST_TOLERANCE,
    GoldenImage,
    draft_golden,
    preprocess_golden,
    read_golden_images,
)
from app.packages.build.models import Source
from app.packages.build.onnx_source import OnnxModule
from app.packages.build.outputs import (
    check_meaning,
    fit_outputs,
    require_classes,
    select_output,
)
from app.packages.build.presets import Preset
from app.packages.build.reference import transform_of
from app.packages.build.script import save_script, to_torchscript
from app.packages.consistency import find_contradiction
from app.packages.manifest import ModelFormat, parse_preprocess
from app.packages.package import Package
from app.packages.staging import refuse_existing
from app.packages.write import PackageDraft, write_package


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        labels: by class index.
        preset: returns the preprocessing for the loaded module.
        kind: ``logits`` or ``probabilities``; None for logits that must not look like
            probabilities.
        task: ``single_label`` or ``multi_label``.
        method: ``trace`` or ``script``.
        golden: files of golden samples; see read_golden_images.
        golden_scores: golden samples with results of the training code; see read_golden_scores.
        tolerance: largest allowed difference of a golden score; None for the default of the
            resampling.
        positive: the label that the one output of a binary model is the score of.
        output_key: chooses one of several outputs; see select_output.
        orientation: whether training turned images upright as their metadata say.
        training: how the model was trained, JSON values for the manifest.
        scaled_decode: whether large jpgs may be decoded smaller.
        replace: whether an existing version is replaced.
    """

    name: str
    version: str
    source: Source
    labels: list[str]
    preset: Callable[[torch.nn.Module], Preset]
    kind: str | None = None
    task: str = "single_label"
    method: str = "trace"
    golden: tuple[str, ...] = ()
    golden_scores: Sequence[GoldenImage] = ()
    tolerance: float | None = None
    positive: str | None = None
    output_key: str | None = None
    orientation: OrientationRule = "exif"
    training: dict[str, Any] | None = None
    scaled_decode: bool = False
    replace: bool = False


def build_package(
    weights_dir: Path,
    request: BuildRequest,
    check: Callable[[Package], object],
    report: Callable[[str], object] = lambda _: None,
) -> Package:
    """Build a package into ``weights/NAME/VERSION``.

    Args:
        weights_dir: the weights folder.
        request: the parts.
        check: called with the complete package before it is put in place.
        report: called with a line of text when each stage starts.

    Raises:
        OperatorError: a part cannot be read, or the parts do not fit together; nothing is
            left behind.
    """
    require_classes(request.labels, request.task)
    if not request.replace:
        refuse_existing(weights_dir / request.name / request.version)
    images = list(request.golden_scores)
    if request.golden or not images:
        images += read_golden_images(request.golden)
    report("loading the model")
    model = request.source.load(len(request.labels))
    preset = request.preset(model)
    steps = parse_preprocess(preset.steps, preset.origin)
    input_spec = _input_spec(steps, preset.origin)
    if isinstance(model, OnnxModule):
        sides = (input_spec[side] for side in ("height", "width", "channels"))
        input_spec |= model.fit_input(*sides)
    report("running the reference on the golden samples")
    transform = preset.transform or transform_of(steps)
    inputs = preprocess_golden(images, transform, request.orientation)
    output = (request.kind or "logits", request.task)
    model = select_output(model, inputs, request.output_key)
    model = fit_outputs(model, inputs, request.labels, output, request.positive)
    check_meaning(model, inputs, request.kind, request.task)
    tolerance = request.tolerance or _default_tolerance(steps)
    golden = draft_golden(images, inputs, model, output, request.labels, tolerance)
    model_format, save_model, output_name = _convert(model, inputs, request.method, report)
    report("checking the package as a server would")
    draft = PackageDraft(
        name=request.name,
        version=request.version,
        input=input_spec,
        preprocess=preset.steps,
        output={
            **{"kind": output[0], "task": output[1], "classes": len(request.labels)},
            **({"name": output_name} if output_name else {}),
        },
        labels=request.labels,
        save_model=save_model,
        model_format=model_format,
        golden=golden,
        orientation=request.orientation,
        training=request.training,
        scaled_decode=request.scaled_decode,
    )
    try:
        return write_package(weights_dir, draft, check, request.replace)
    except PackageError as exc:
        if golden.difference and exc.field == "golden":
            raise OperatorError(f"{golden.difference}\n{exc.problem}") from exc
        raise


def _convert(
    model: torch.nn.Module, inputs: torch.Tensor, method: str, report: Callable[[str], object]
) -> tuple[ModelFormat, Callable[[Path], object], str | None]:
    """Return the package's format, a function that writes the file, and the output's name."""
    if isinstance(model, OnnxModule):
        return "onnx", model.save, model.output_name
    report(f"converting to TorchScript ({method}) and comparing it with the model")
    scripted = to_torchscript(model, inputs, method)
    return "torchscript", partial(save_script, scripted), None


def _input_spec(steps: tuple[Step, ...], origin: str) -> dict[str, Any]:
    size = fixed_output_size(steps)
    if size is None:
        raise OperatorError(
            f"{origin}: the steps end in a size that depends on the image; add --crop HxW after "
            "--resize-shortest, or use --resize HxW"
        )
    channels = next((step.channels for step in steps if isinstance(step, Color)), 3)
    contradiction = find_contradiction(steps, size.height, size.width, channels)
    if contradiction is not None:
        raise PackageError(origin, contradiction.problem, field=contradiction.field)
    shape = {"height": size.height, "width": size.width, "channels": channels}
    return {**shape, "layout": "NCHW", "dtype": "float32"}


def _default_tolerance(steps: tuple[Step, ...]) -> float:
    samplings = [step.sampling for step in geometry_of(steps) if step.sampling]
    exact = all(sampling.resampling == "exact" for sampling in samplings)
    return EXACT_TOLERANCE if exact else FAST_TOLERANCE
