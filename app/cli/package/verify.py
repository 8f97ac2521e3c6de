"""``classifyd package verify``: does a package give its known answers here."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.licences import licence_options, load_unlocked
from app.cli.options import resolve_options
from app.errors import OperatorError
from app.packages.schema import is_identifier
from app.packages.store import active_version

if TYPE_CHECKING:
    from app.packages.package import Package


@click.command()
@click.argument("package")
@click.option("--weights-dir", metavar="DIR", help="folder of the model packages, for a NAME")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@licence_options
def verify(package: str, weights_dir: str | None, as_json: bool, **options: str | None) -> None:
    """Check a package (a folder NAME/VERSION, or the active version of a NAME).

    Its files must be whole, its model must fit its manifest, and its golden samples must
    give the scores that the reference gave, within the package's tolerance. A sealed package
    is opened with the licence that this machine's server uses.
    """
    folder = find_package(package, weights_dir)
    try:
        result = describe_verified(load_unlocked(folder, options))
    except OperatorError as exc:
        if as_json:
            print(json.dumps({"package": str(folder), "ok": False, "reason": str(exc)}))
        raise
    print(json.dumps(result, ensure_ascii=False) if as_json else _as_text(result))


def find_package(package: str, weights_dir: str | None = None) -> Path:
    """Find the folder of a package.

    Args:
        package: a folder ``NAME/VERSION``, or a NAME in the weights folder.
        weights_dir: the weights folder; that of the settings by default.

    Raises:
        PackageError: the name has no active version.
        OperatorError: it is neither a folder nor a name.
    """
    if (Path(package) / "manifest.json").is_file():
        return Path(package).resolve()
    weights = resolve_options({"weights_dir": weights_dir}).settings.weights_dir
    if not is_identifier(package) or not (weights / package).is_dir():
        raise OperatorError(
            f"{package!r} is neither a package's folder (NAME/VERSION) nor a name in {weights}"
        )
    return active_version(weights / package)


def describe_verified(package: "Package") -> dict[str, Any]:
    """Load a package as a server does and say how well it keeps to its known answers.

    Raises:
        PackageError: as load_classifier.
    """
    from app.inference.classifier import load_classifier
    from app.inference.engines.base import use_one_thread_per_operation
    from app.inference.golden.check import find_unnoticed
    from app.inference.queue import InferenceQueue
    from app.inference.tuning.loader import ExactLoader

    use_one_thread_per_operation()
    queue = InferenceQueue(1)
    try:
        classifier = load_classifier(package, ExactLoader(), queue)
        golden = classifier.golden
        return {
            "package": str(package.folder),
            "ok": True,
            "digest": package.digest,
            "engine": classifier.engine.name,
            "golden_samples": len(package.golden.images) if package.golden else 0,
            "tolerance": golden and golden.tolerance,
            "worst_difference": golden and golden.worst_difference,
            "worst_file": golden and golden.worst_file,
            "unnoticed": find_unnoticed(package, classifier.engine),
        }
    finally:
        queue.close()


def summarise(result: dict[str, Any]) -> str:
    """The outcome of describe_verified in one or two lines."""
    if not result["golden_samples"]:
        return "no golden samples: nothing proves that its scores are those of the training"
    lines = [
        f"{result['golden_samples']} golden samples, worst difference of a score "
        f"{result['worst_difference']:.2g} (tolerance {result['tolerance']:g})"
    ]
    if result["unnoticed"]:
        lines.append("  they would not notice: " + "; ".join(result["unnoticed"]))
    return "\n".join(lines)


def _as_text(result: dict[str, Any]) -> str:
    return f"{result['package']}: ok, {summarise(result)}"
