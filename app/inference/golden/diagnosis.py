"""Why an engine does not give the expected scores of a package's golden samples.

The mistakes that people make when they describe a preprocessing are few. Each is undone in
turn, and the one that explains the difference is named.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from app.imaging.preprocess import Preprocessor
from app.imaging.steps import (
    CenterCrop,
    CenterCropFraction,
    Color,
    ColorOrder,
    Geometry,
    Normalize,
    ResizeExact,
    ResizeLetterbox,
    ResizeShortestSide,
    Sampling,
    Scale,
    Step,
    geometry_of,
)
from app.inference.engines.base import Engine, FloatArray
from app.inference.golden.samples import make_scorer
from app.packages.consistency import find_contradiction
from app.packages.manifest import InputSpec, Manifest, OutputSpec
from app.packages.package import Golden, Package

MAX_REMAINING_SHARE = 0.34
"""A variant that leaves at most this share of the difference is named: there may be two mistakes,
or another implementation of the same filter."""

MAX_NAMED = 3
MAX_TIE = 0.05
MAX_TIES = 4
"""Scores that differ by so much, or by so many tolerances, do not show an order of classes."""

_UNIT = Scale(1 / 255, 0)
_RANGES: tuple[tuple[str, tuple[Step, ...]], ...] = (
    ("ImageNet's mean and std", (_UNIT, Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))),
    ("-1 to 1", (Scale(1 / 127.5, -1),)),
    ("0 to 1 without mean and std", (_UNIT,)),
    ("0 to 255 without scale, mean and std", ()),
    (
        "CLIP's mean and std",
        (_UNIT, Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.275777))),
    ),
    ("(x - 127) / 128", (Scale(1 / 128, -127 / 128),)),
    ("ImageNet's mean in grey levels, no std", (Normalize((123.68, 116.78, 103.94), (1, 1, 1)),)),
    ("MNIST's mean and std", (_UNIT, Normalize((0.1307,), (0.3081,)))),
)
_CROP_FRACTIONS = (1.0, 0.875, 0.9, 0.95, 224 / 232, 224 / 235, 0.8)
"""Input side over resized side in torchvision's and timm's weights."""

_SAMPLINGS = (
    Sampling("bilinear", True, "fast"),
    Sampling("bicubic", True, "fast"),
    Sampling("lanczos", True, "exact"),
    Sampling("nearest", False, "fast"),
    Sampling("bilinear", False, "fast"),
    Sampling("bicubic", False, "fast"),
)


class Variant(NamedTuple):
    """A preprocessing with one change: its topic, and what it was changed to."""

    topic: str
    description: str
    steps: tuple[Step, ...]


def likely_cause(package: Package, golden: Golden, engine: Engine) -> str:
    """Name the most likely reason why an engine does not give the expected scores."""
    score, output = make_scorer(package, golden, engine), package.manifest.output
    if package.manifest.model.format == "openvino":
        return (
            "this machine computes the optimised model in another way than the one on which it "
            "was measured; optimise here, or activate the version that it was made from"
        )
    trials = [
        (
            f"the {variant.topic}: the scores fit {variant.description}",
            score(Preprocessor(variant.steps), output),
        )
        for variant in (*variants(package.manifest), *_exact_resampling(package.manifest))
    ]
    for other in _other_outputs(output):
        text = f"output: the scores fit kind {other.kind} and task {other.task}"
        trials.append((text, score(package.preprocessor, other)))
    served = score(package.preprocessor, output)
    differences = [_difference(scores, golden.scores) for _, scores in trials]
    best = int(np.argmin(differences))
    found = _difference(served, golden.scores)
    if differences[best] <= max(golden.tolerance, MAX_REMAINING_SHARE * found):
        return trials[best][0]
    # Scores that are nearly equal fit in any order.
    is_tie = found <= max(MAX_TIE, MAX_TIES * golden.tolerance)
    if not is_tie and _difference(np.sort(served), np.sort(golden.scores)) <= golden.tolerance:
        return "the order of the classes: the scores are right, but at other classes"
    return "the model file or the engine's precision; no common mistake in preprocess explains it"


def find_unnoticed(package: Package, engine: Engine) -> list[str]:
    """List the common mistakes that the golden samples would not detect.

    A sample whose scores stay the same when the colours are swapped cannot detect a swap;
    other or more images, or a smaller tolerance, may. The engine must give the expected scores.
    """
    golden = package.golden
    if golden is None:
        return ["any mistake: the package has no golden samples"]
    score, output = make_scorer(package, golden, engine), package.manifest.output
    trials = [
        (f"{variant.topic} ({variant.description})", Preprocessor(variant.steps), output)
        for variant in variants(package.manifest)
    ]
    trials += [
        (f"kind of the output ({other.kind}, {other.task})", package.preprocessor, other)
        for other in _other_outputs(output)
        if other != output
    ]
    unnoticed = [
        text
        for text, preprocessor, spec in trials
        if _difference(score(preprocessor, spec), golden.scores) <= golden.tolerance
    ]
    return [*unnoticed, *_unnoticed_labels(package.labels, golden)]


def _unnoticed_labels(labels: Sequence[str], golden: Golden) -> Iterator[str]:
    """Two labels can be swapped unnoticed if no sample has one of them among its best."""
    named = {label for top in golden.top for label in top}
    others = [label for label in dict.fromkeys(labels) if label not in named]
    if len(others) > 1:
        examples = ", ".join(others[:MAX_NAMED]) + (", ..." if len(others) > MAX_NAMED else "")
        yield f"order of the labels ({len(others)} that no sample has among its best: {examples})"


def variants(manifest: Manifest) -> Iterator[Variant]:
    """Undo each common mistake on its own; only steps that make the model's input are valid."""
    steps, spec = manifest.preprocess, manifest.input
    for variant in _all_variants(steps, spec):
        contradiction = find_contradiction(variant.steps, spec.height, spec.width, spec.channels)
        if contradiction is None and variant.steps != steps:
            yield variant


def _all_variants(steps: tuple[Step, ...], spec: InputSpec) -> Iterator[Variant]:
    color, geometry = steps[0], geometry_of(steps)
    values = steps[1 + len(geometry) :]
    orders: tuple[ColorOrder, ...] = ("RGB", "BGR")
    for order in orders:
        yield Variant("colour order", order, (Color(order), *steps[1:]))
    for description, others in _RANGES:
        yield Variant("mean and std", description, (color, *geometry, *others))
    present = {_kind(step.sampling) for step in geometry if step.sampling}
    for sampling in (sampling for sampling in _SAMPLINGS if _kind(sampling) not in present):
        resized = tuple(step.with_sampling(sampling) for step in geometry)
        text = f"{sampling.filter} {'with' if sampling.antialias else 'without'} antialiasing"
        yield Variant("resize filter", text, (color, *resized, *values))
    for description, other in _geometries(geometry, spec):
        yield Variant("resize or crop", description, (color, *other, *values))


def _exact_resampling(manifest: Manifest) -> Iterator[Variant]:
    """Not a mistake, but ``fast`` moves the scores of some models by more than the tolerance."""
    geometry = geometry_of(manifest.preprocess)
    samplings = [step.sampling for step in geometry if step.sampling]
    if not any(s.antialias and s.resampling == "fast" for s in samplings):
        return
    exact = tuple(
        step.with_sampling(replace(step.sampling, resampling="exact"))
        if step.sampling and step.sampling.antialias
        else step
        for step in geometry
    )
    values = manifest.preprocess[1 + len(geometry) :]
    description = 'exact resampling; build with --resampling exact ("resampling": "exact")'
    yield Variant("resampling", description, (manifest.preprocess[0], *exact, *values))


def _kind(sampling: Sampling) -> tuple[str, bool]:
    """What changes the pixels visibly; fast and exact differ by rounding only."""
    return sampling.filter, sampling.antialias


def _geometries(
    geometry: tuple[Geometry, ...], spec: InputSpec
) -> Iterator[tuple[str, tuple[Geometry, ...]]]:
    sampling = next((step.sampling for step in geometry if step.sampling), _SAMPLINGS[0])
    height, width, pad = spec.height, spec.width, (0,) * spec.channels
    exact = ResizeExact(height, width, sampling)
    yield f"the whole image resized to {height} x {width}, no crop", (exact,)
    for size in sorted({round(max(height, width) / part) for part in _CROP_FRACTIONS} | {256}):
        yield (
            f"the shortest side {size}, then a centre crop of {height} x {width}",
            (ResizeShortestSide(size, sampling), CenterCrop(height, width, pad)),
        )
    if not any(step.needs_crop for step in geometry):
        # Otherwise one of the shortest sides above gives the same pixels.
        yield "a centre crop of 0.875, then resized", (CenterCropFraction(0.875), exact)
    yield "the whole square in the centre, then resized", (CenterCropFraction(1), exact)
    for level in (0, 114, 128, 255):
        fill = (level,) * spec.channels
        yield f"a letterbox of {level}", (ResizeLetterbox(height, width, fill, sampling),)


def _other_outputs(output: OutputSpec) -> Iterator[OutputSpec]:
    yield replace(output, kind="probabilities")
    yield replace(output, kind="logits", task="single_label")
    yield replace(output, kind="logits", task="multi_label")


def _difference(scores: FloatArray, expected: FloatArray) -> float:
    return float(np.abs(scores - expected).max())
