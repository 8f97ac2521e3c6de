"""Whether an engine gives the expected scores of a package's golden samples.

The expected scores are those of the reference: the transforms that the model was trained
with, and the eager module. An engine that differs by more than the package's tolerance, in
the precision that it would serve with, is not used.
"""

from dataclasses import dataclass

import numpy as np

from app.errors import PackageError
from app.inference.engines.base import Engine
from app.inference.golden.diagnosis import likely_cause
from app.inference.golden.samples import make_scorer
from app.inference.scores import rank
from app.packages.package import Golden, Package


@dataclass(frozen=True)
class GoldenResult:
    """How far an engine is from the expected scores.

    Attributes:
        worst_difference: the largest absolute difference of any score.
        worst_file: the image with this difference.
        tolerance: the largest difference that the package tolerates.
    """

    worst_difference: float
    worst_file: str
    tolerance: float


def check_golden(package: Package, engine: Engine) -> GoldenResult | None:
    """Require an engine to give the expected scores.

    Returns:
        The measured difference, or None for a package without golden samples.

    Raises:
        PackageError: a score is off by more than the tolerance, or a label differs from the
            reference's; the text names the likely cause.
    """
    golden = package.golden
    if golden is None:
        return None
    _check_labels(package, golden)
    result = measure_golden(package, golden, engine)
    if result.worst_difference > golden.tolerance:
        raise PackageError(
            package.folder,
            f"{result.worst_file}: a score is off by {result.worst_difference:.4f}, more than "
            f"the tolerance {result.tolerance:g} ({engine.name} on {engine.device}); "
            f"likely cause: {likely_cause(package, golden, engine)}",
            field="golden",
        )
    return result


def measure_golden(package: Package, golden: Golden, engine: Engine) -> GoldenResult:
    """Measure how far an engine is from the expected scores, whatever the tolerance.

    Raises:
        PackageError: an image cannot be read, or the model fails on it.
    """
    scores = make_scorer(package, golden, engine)(package.preprocessor, package.manifest.output)
    differences = np.abs(scores - golden.scores).max(axis=1)
    worst = int(differences.argmax())
    return GoldenResult(float(differences[worst]), golden.images[worst].name, golden.tolerance)


def _check_labels(package: Package, golden: Golden) -> None:
    for path, top, scores in zip(golden.images, golden.top, golden.scores, strict=True):
        found = [str(result["name"]) for result in rank(scores, package.labels, len(top))]
        if found != list(top):
            raise PackageError(
                package.folder / package.manifest.labels.file,
                f"for {path.name} it gives {', '.join(found)}; the reference gave "
                f"{', '.join(top)}; likely cause: the label file is for another model or in "
                "another order",
            )
