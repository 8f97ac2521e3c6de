"""Whether heat maps show what a model looks at: deletion and insertion against random boxes.

    python -m benchmarks.heatmap --data photos/
    python -m benchmarks.heatmap --data photos/ --package weights/insects/1 --photos 50

As in RISE (Petsiuk et al., 2018): the pixels of the model's input are made grey, those first that
the map calls important (*deletion*, the faster the score of the top class falls the better), or
shown in place of a blurred image (*insertion*, the faster it rises the better). The figures are
the areas under both curves, from 0 to 1, means over the photos with their 95 % interval. *Random*
is the map that the same boxes give if every score is a random number. *Better* is the share of
the photos where the heat map beats the mean of the random ones.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from math import inf, sqrt
from pathlib import Path
from statistics import mean, stdev

import cv2
import numpy as np
import numpy.typing as npt

from app.evaluation.dataset import SUFFIXES
from app.imaging.header import ImageHeader
from app.imaging.preprocess import locate_image
from app.imaging.steps import Size
from app.inference.engines.base import Engine, FloatArray, use_one_thread_per_operation
from app.inference.explanation import explain
from app.inference.preparation import prepare_image
from app.inference.scores import to_scores
from app.inference.tuning.loader import TunedLoader
from app.inference.tuning.selection import engine_requirements
from app.packages.package import Package, load_package
from app.settings import read_settings
from benchmarks.support import (
    PROJECT_ROOT,
    make_parser,
    pluralise,
    publish,
    show_status,
    table,
    usable_cpus,
)

STEPS = 14
BLUR_PX = 5.0
"""Standard deviation, of RISE's insertion."""

Score = Callable[[FloatArray], FloatArray]
Curve = tuple[float, float]
"""The areas of deletion and insertion."""


@dataclass(frozen=True)
class Outcome:
    """The areas of one photo: of its heat map, and of one random map for each seed."""

    heat: Curve
    random: list[Curve]
    passes: int
    took_s: float


class Bench:
    """One package with the engine that the server would choose.

    Args:
        package: to explain.
        engine: runs its model.
        seeds: number of random maps for each photo.
    """

    def __init__(self, package: Package, engine: Engine, seeds: int) -> None:
        self._package, self._engine, self._seeds = package, engine, seeds

    def measure(self, photo: Path) -> Outcome:
        """Measure one photo."""
        prepared = prepare_image(photo.read_bytes(), self._package)
        started = time.perf_counter()
        found = explain(self._score, self._package, prepared, None, inf)
        took_s = time.perf_counter() - started
        index = int(self._score(prepared[1]).argmax())
        maps = [self._random_map(prepared, f"{photo.name} {n}") for n in range(self._seeds)]
        curves = [self._curve(prepared, heat, index) for heat in (found.heat, *maps)]
        return Outcome(curves[0], curves[1:], found.passes, took_s)

    def _score(self, model_input: FloatArray) -> FloatArray:
        output = self._engine.infer(np.ascontiguousarray(model_input)[np.newaxis])[0]
        return to_scores(output, self._package.manifest.output)

    def _random_map(
        self, prepared: tuple[ImageHeader, FloatArray], seed: str
    ) -> npt.NDArray[np.float64]:
        numbers, first = random.Random(seed), [1.0]  # noqa: S311 - no secret
        classes = len(self._package.labels)

        def score(_: FloatArray) -> FloatArray:
            value = first.pop() if first else numbers.random()
            return np.full(classes, value, np.float32)

        return explain(score, self._package, prepared, None, inf).heat

    def _curve(
        self,
        prepared: tuple[ImageHeader, FloatArray],
        heat: npt.NDArray[np.float64],
        index: int,
    ) -> Curve:
        header, shown = prepared
        grey = np.zeros_like(shown)
        blurred = np.stack([cv2.GaussianBlur(plane, (0, 0), BLUR_PX) for plane in shown])
        order = np.argsort(-self._on_input(heat, header, shown.shape[1:]).ravel())
        areas = []
        for hidden, revealed in ((shown, grey), (blurred, shown)):
            scores = []
            for step in range(STEPS + 1):
                mask = np.zeros(order.size, bool)
                mask[order[: order.size * step // STEPS]] = True
                mixed = np.where(mask.reshape(shown.shape[1:]), revealed, hidden)
                scores.append(float(self._score(mixed)[index]))
            areas.append(mean([mean(scores[:-1]), mean(scores[1:])]))
        return areas[0], areas[1]

    def _on_input(
        self, heat: npt.NDArray[np.float64], header: ImageHeader, shape: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        """The heat of each pixel of the input; equal ones differ by noise, for the order."""
        upright = (header.height, header.width)
        size = Size(*(reversed(upright) if header.orientation >= 5 else upright))
        cells = []
        spans = locate_image(self._package.manifest.preprocess, size)
        for (start, end), side, count in zip(spans, shape, heat.shape, strict=True):
            places = (np.arange(side) + 0.5 - start) / (end - start)
            cells.append((places * count).astype(int).clip(0, count - 1))
        noise = np.random.default_rng(0).random(tuple(shape)) * 1e-6
        return heat[np.ix_(*cells)] + noise


def summarise(name: str, outcomes: Sequence[Outcome]) -> list[list[str]]:
    """The rows of the table, one for deletion and one for insertion."""
    rows = []
    for kind, sign in ((0, -1), (1, 1)):
        heat = [outcome.heat[kind] for outcome in outcomes]
        chance = [mean(curve[kind] for curve in outcome.random) for outcome in outcomes]
        gains = [sign * (a - b) for a, b in zip(heat, chance, strict=True)]
        better = mean(gain > 0 for gain in gains)
        gain = f"{mean(gains):+.3f} ± {1.96 * stdev(gains) / sqrt(len(gains)):.3f}"
        rows.append(
            [
                *(name, ("deletion", "insertion")[kind]),
                *(f"{mean(heat):.3f}", f"{mean(chance):.3f}", gain, f"{better:.0%}"),
            ]
        )
    return rows


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, "heatmap")
    demo = PROJECT_ROOT / "weights/imagenet/1"
    parser.add_argument("--data", type=Path, required=True, help="folder with photos")
    parser.add_argument("--package", type=Path, default=demo, help="folder NAME/VERSION")
    parser.add_argument("--photos", type=int, default=100, help="number of photos, a random choice")
    parser.add_argument("--skip", type=int, default=0, help="so many of these, for a run in parts")
    parser.add_argument("--seeds", type=int, default=5, help="random maps for each photo")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = _options()
    use_one_thread_per_operation()
    settings = read_settings({}, dict(options.setting)).settings
    package = load_package(options.package)
    loader = TunedLoader(engine_requirements(settings, "cpu"), settings.state_dir, max_batch=1)
    photos = sorted(p for p in options.data.rglob("*") if p.suffix.lower() in SUFFIXES)
    random.Random(0).shuffle(photos)  # noqa: S311 - no secret
    bench = Bench(package, loader.load(package).engine, options.seeds)
    outcomes = []
    with ThreadPoolExecutor(usable_cpus()) as pool:
        for outcome in pool.map(partial(bench.measure), photos[options.skip : options.photos]):
            outcomes.append(outcome)
            show_status(f"{pluralise(len(outcomes), 'photo')} of {options.photos}", ending="")
    head = ("package", "measure", "heat map", "random", "gain", "better")
    passes = mean(outcome.passes for outcome in outcomes)
    title = f"{pluralise(len(outcomes), 'photo')}, {passes:.0f} inferences for each heat map"
    text = f"{title}\n\n{table(head, summarise(package.manifest.name, outcomes))}"
    publish(options, text, {"outcomes": [asdict(outcome) for outcome in outcomes]})


if __name__ == "__main__":
    main()
