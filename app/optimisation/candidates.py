"""The candidates: bfloat16, int8, and int8 with the most sensitive layers in float32."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.inference.engines.base import EngineError, FloatArray
from app.inference.engines.converted_model import serialise
from app.inference.engines.openvino import OpenVinoEngine
from app.inference.engines.quantisation import layers_of, quantise
from app.optimisation.photos import Photos
from app.optimisation.scoring import divergence, score_inputs
from app.packages.manifest import OutputSpec, Precision
from app.reporting.counts import pluralise
from app.system.cpus import usable_cpus

CALIBRATION_IMAGES = 300
RANKING_IMAGES = 64
RANKING_CALIBRATION_IMAGES = 16
WORST_BLOCKS = 2

IN_FLOAT = (1, 3, 8)
"""How many of the most sensitive layers stay in float32."""

Progress = Callable[[str], object]


@dataclass(frozen=True)
class Candidate:
    """A model that could be served instead of the one in float32.

    Attributes:
        name: for people.
        precision: what OpenVINO computes it in.
        converted: its ``model.xml`` and ``model.bin``.
        in_float: the layers that int8 leaves in float32.
    """

    name: str
    precision: Precision
    converted: tuple[bytes, bytes]
    in_float: tuple[str, ...] = ()

    def load(self) -> OpenVinoEngine:
        """Load it for one image at a time on each core.

        Raises:
            EngineError: OpenVINO cannot compile it.
        """
        return OpenVinoEngine(self.converted, self.precision, usable_cpus())


def make_candidates(
    model: Any, photos: Photos, spec: OutputSpec, progress: Progress
) -> Iterator[Candidate]:
    """Make float32 first, then the candidates.

    Args:
        model: an ``openvino.Model`` in float32.
        photos: one half of them calibrates.
        spec: of the model's output.
        progress: called with each stage.

    Raises:
        EngineError: NNCF is missing, or OpenVINO or NNCF does not support the model.
    """
    plain = serialise(model)
    yield (float32 := Candidate("float32", "float32", plain))
    yield Candidate("bfloat16", "bfloat16", plain)
    progress("quantising to int8")
    images = _spread(photos, CALIBRATION_IMAGES)
    yield Candidate("int8", "int8", serialise(quantise(model, images)))
    ranked = rank_layers(model, float32, photos, spec, progress)
    for count in (count for count in IN_FLOAT if count < len(ranked)):
        layers = ranked[:count]
        name = f"int8, {pluralise(len(layers), 'layer')} in float32"
        progress(f"quantising to {name}")
        quantised = quantise(model, images, layers)
        yield Candidate(name, "int8", serialise(quantised), tuple(layers))


def rank_layers(
    model: Any, float32: Candidate, photos: Photos, spec: OutputSpec, progress: Progress
) -> list[str]:
    """List the layers whose quantisation moves the scores most, the worst first.

    First blocks of neighbouring layers are quantised one at a time, then each layer of the
    worst blocks: sensitive layers are mostly the first and the last ones. See make_candidates for
    the arguments.
    """
    layers = layers_of(model)
    images = np.concatenate(_spread(photos, RANKING_IMAGES))
    calibration = _spread(photos, RANKING_CALIBRATION_IMAGES)
    expected = score_inputs(float32.load(), images, spec)

    def rank(groups: list[list[str]]) -> list[list[str]]:
        moved = []
        for number, group in enumerate(groups, start=1):
            progress(f"measuring how sensitive the layers are, {number} of {len(groups)}")
            others = [layer for layer in layers if layer not in group]
            try:
                alone = serialise(quantise(model, calibration, others, rough=True))
            except EngineError:
                # NNCF refuses a scope in which it finds nothing to quantise.
                moved.append(0.0)
                continue
            engine = Candidate("", "int8", alone).load()
            moved.append(divergence(expected, score_inputs(engine, images, spec)))
        return [groups[index] for index in np.argsort(-np.array(moved), kind="stable")]

    size = math.ceil(math.sqrt(len(layers)))
    blocks = rank([layers[start : start + size] for start in range(0, len(layers), size)])
    return [
        layer for block in rank([[x] for b in blocks[:WORST_BLOCKS] for x in b]) for layer in block
    ]


def _spread(photos: Photos, count: int) -> Sequence[FloatArray]:
    """Take at most so many inputs of the half that calibrates, float32 (1, C, H, W) each."""
    half = photos.calibration
    places = np.linspace(0, len(half) - 1, min(count, len(half))).round().astype(int)
    return [np.array(photos.inputs[index : index + 1]) for index in half[places]]
