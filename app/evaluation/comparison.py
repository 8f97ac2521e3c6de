"""Two versions of a package on the same photos, side by side."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.errors import OperatorError
from app.evaluation.intervals import Interval, drop_interval
from app.evaluation.metrics import Metrics
from app.evaluation.outcomes import Outcome


@dataclass(frozen=True)
class Side:
    """One of the two: what it is, and how it did."""

    name: str
    engine: str
    images_per_s: float
    metrics: Metrics


@dataclass(frozen=True)
class Comparison:
    """The evaluated version beside another one, on the images that both accept.

    Attributes:
        this: the evaluated version.
        other: the one that it is compared with.
        images: their number.
        same_top: images for which both have the same first label.
        lost: images that only the other one has right.
        gained: images that only this one has right.
        drop: of the top-1 from the other one to this one; negative for a gain.
        drop_interval_95: its interval.
    """

    this: Side
    other: Side
    images: int
    same_top: int
    lost: int
    gained: int
    drop: float
    drop_interval_95: Interval

    def rows(self) -> list[list[str]]:
        """The rows of a table: a name, this version, the other one."""
        pairs = [(side.metrics, side) for side in (self.this, self.other)]
        return [
            ["engine", *(side.engine for _, side in pairs)],
            ["top-1", *(f"{m.top1 * 100:.1f} %" for m, _ in pairs)],
            ["top-5", *(f"{m.top5 * 100:.1f} %" for m, _ in pairs)],
            ["macro F1", *(f"{m.macro_f1 * 100:.1f} %" for m, _ in pairs)],
            ["calibration error", *(f"{m.calibration_error * 100:.1f} %" for m, _ in pairs)],
            ["images/s", *(f"{side.images_per_s}" for _, side in pairs)],
        ]

    def sentence(self) -> str:
        """Say how they differ."""
        low, high = self.drop_interval_95
        return (
            f"Compared with {self.other.name}: same first label on {self.same_top} of "
            f"{self.images}; {self.lost} right there and wrong here, {self.gained} the other way "
            f"round; top-1 {-self.drop * 100:+.2f} points (95 % interval {-high * 100:+.2f} to "
            f"{-low * 100:+.2f})"
        )

    def document(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        sides = {
            key: {
                **{"name": side.name, "engine": side.engine, "images_per_s": side.images_per_s},
                **{"top1": side.metrics.top1, "top5": side.metrics.top5},
                "macro_f1": side.metrics.macro_f1,
                "calibration_error": side.metrics.calibration_error,
            }
            for key, side in (("this", self.this), ("other", self.other))
        }
        return asdict(self) | sides


def compare(
    this: Side, other: Side, found: Sequence[Outcome], others: Sequence[Outcome]
) -> Comparison:
    """Compare two versions by their outcomes for the same images; see Comparison.

    Raises:
        OperatorError: no image is accepted by both.
    """
    by_path = {outcome.sample.path: outcome for outcome in others}
    pairs = [(o, by_path[o.sample.path]) for o in found if o.sample.path in by_path]
    if not pairs:
        raise OperatorError(
            f"--compare: each image is rejected by {this.name} or by {other.name}; evaluate each "
            "without --compare to see why"
        )
    right = [(a.top[0] in a.truth, b.top[0] in b.truth) for a, b in pairs]
    lost = sum(b and not a for a, b in right)
    gained = sum(a and not b for a, b in right)
    return Comparison(
        this=this,
        other=other,
        images=len(pairs),
        same_top=sum(a.top[0] == b.top[0] for a, b in pairs),
        lost=lost,
        gained=gained,
        drop=(lost - gained) / len(pairs),
        drop_interval_95=drop_interval(lost, gained, len(pairs)),
    )
