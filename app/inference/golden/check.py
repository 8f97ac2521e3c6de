"""Whether an engine gives a package's known answers.

The package carries images with the scores of its reference: the transforms that the model
was trained with and the eager module. An engine that is off by more than the package's
tolerance, in the precision that it is going to serve with, is not put to work.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.errors import ApiError, PackageError
from app.imaging.decode import decode
from app.imaging.guard import guard
from app.imaging.preprocess import Preprocessor
from app.imaging.resample import ByteArray
from app.inference.engines.base import Engine, FloatArray
from app.inference.golden.diagnosis import likely_cause, unnoticed_mistakes
from app.inference.scores import to_scores
from app.packages.manifest import OutputSpec
from app.packages.package import Golden, Package


@dataclass(frozen=True)
class GoldenResult:
    """How far an engine is from the known scores.

    Attributes:
        worst_difference: the largest absolute difference of any score.
        worst_file: the image that it was found on.
        tolerance: what the package lets pass.
    """

    worst_difference: float
    worst_file: str
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the engine may serve the package."""
        return self.worst_difference <= self.tolerance


def check_golden(package: Package, engine: Engine) -> GoldenResult | None:
    """Require an engine to give the package's known answers.

    Args:
        package: the package whose preprocessing, labels and golden samples count.
        engine: its loaded model, in the precision that is to serve.

    Returns:
        What was measured, or None for a package without golden samples.

    Raises:
        PackageError: a score is off by more than the tolerance, or a label is not the one
            that the reference had; the text names the likely cause.
    """
    golden = package.golden
    if golden is None:
        return None
    _check_labels(package, golden)
    result = measure_golden(package, engine)
    if result is not None and not result.passed:
        images = [read_image(path) for path in golden.images]
        cause = likely_cause(package, golden, images, lambda *a: _infer(package, engine, *a))
        raise PackageError(
            str(package.folder),
            "golden",
            f"{result.worst_file}: a score is off by {result.worst_difference:.4f}, more than "
            f"the tolerance {result.tolerance:g} ({engine.name} on {engine.device}); "
            f"likely cause: {cause}",
        )
    return result


def measure_golden(package: Package, engine: Engine) -> GoldenResult | None:
    """Measure how far an engine is from the known scores, whatever the tolerance.

    Returns:
        None for a package without golden samples.

    Raises:
        PackageError: an image cannot be read, or the model fails on it.
    """
    golden = package.golden
    if golden is None:
        return None
    images = [read_image(path) for path in golden.images]
    scores = _infer(package, engine, images, package.preprocessor, package.manifest.output)
    differences = np.abs(scores - golden.scores).max(axis=1)
    worst = int(differences.argmax())
    return GoldenResult(float(differences[worst]), golden.images[worst].name, golden.tolerance)


def find_unnoticed(package: Package, engine: Engine) -> list[str]:
    """List the usual mistakes that the golden samples would let pass.

    Args:
        package: one whose known answers the engine gives.
        engine: its loaded model.
    """
    golden = package.golden
    if golden is None:
        return ["any mistake: the package has no golden samples"]
    images = [read_image(path) for path in golden.images]
    return unnoticed_mistakes(package, golden, images, lambda *a: _infer(package, engine, *a))


def read_image(path: Path) -> ByteArray:
    """Decode a golden image as a request's is decoded.

    Raises:
        PackageError: it is no image that a request could carry.
    """
    try:
        return decode(*guard(path.read_bytes()))
    except ApiError as exc:
        raise PackageError(str(path), "", f"is no valid image: {exc.detail}") from exc


def _check_labels(package: Package, golden: Golden) -> None:
    for path, top, scores in zip(golden.images, golden.top, golden.scores, strict=True):
        order = np.argsort(-scores, kind="stable")[: len(top)]
        found = tuple(package.labels[index] for index in order)
        if found != top:
            raise PackageError(
                str(package.folder / package.manifest.labels.file),
                "",
                f"for {path.name} it gives {', '.join(found)}; the reference had "
                f"{', '.join(top)}; likely cause: the label file is another one, or in "
                "another order",
            )


def _infer(
    package: Package,
    engine: Engine,
    images: list[ByteArray],
    preprocessor: Preprocessor,
    spec: OutputSpec,
) -> FloatArray:
    """Scores, float32 (images, classes), one image at a time as a quiet server does."""
    try:
        outputs = [engine.infer(preprocessor(image)[np.newaxis])[0] for image in images]
        return np.stack([to_scores(output, spec) for output in outputs])
    except Exception as exc:
        raise PackageError(
            str(package.model_path), "", f"the model failed on a golden sample in {engine.name}"
        ) from exc
