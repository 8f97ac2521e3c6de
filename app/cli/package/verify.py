"""``classifyd package verify``: check a package and its golden samples on this machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.licences import licence_options, load_unlocked
from app.cli.options import json_option, resolve_options
from app.cli.output import print_result
from app.errors import OperatorError
from app.packages.schema import is_identifier
from app.packages.store import active_version
from app.reporting.counts import pluralise

if TYPE_CHECKING:
    from app.packages.package import Package


RUNS_A_PROGRAM = (
    "the model is a program of the package's author, which is run now; --no-run checks the files "
    "only"
)

ONE_AT_A_TIME = (
    "it is served one image at a time; if the model was not exported for that, it has a BatchNorm "
    "layer without running statistics or another statistic over dimension 0"
)


@click.command()
@click.argument("package")
@click.option("--no-run", is_flag=True, help="check the files only; the model is a program")
@json_option
@licence_options
def verify(package: str, no_run: bool, as_json: bool, **options: str | None) -> None:
    """Check a package (a folder NAME/VERSION, or the active version of a NAME).

    The files must match their checksums, the model must match the manifest, and the golden
    samples must give their expected scores, within the tolerance of the package. A sealed
    package is opened with the licence of this machine's server.

    A model is a program: run that of an unknown author only where it can do no harm, or use
    --no-run.

    \b
    Examples:
        classifyd package verify imagenet
        classifyd package verify weights/imagenet/2 --no-run
    """
    folder = find_package(package, options)
    if no_run:
        result = check_files(folder)
    else:
        unlocked = load_unlocked(folder, options)
        if not _is_installed(folder, options):
            print(f"classifyd: {RUNS_A_PROGRAM}", file=sys.stderr)
        result = verify_package(unlocked)
    print_result(result, f"{result['package']}: ok, {summarise(result)}", as_json)


def find_package(package: str, options: dict[str, str | None]) -> Path:
    """Find the folder of a package: a folder ``NAME/VERSION``, or a NAME in the weights folder.

    Raises:
        PackageError: the name has no active version.
        OperatorError: it is neither a package folder nor a name.
    """
    if (Path(package) / "manifest.json").is_file():
        return Path(package).resolve()
    weights = resolve_options(options).settings.weights_dir
    if not is_identifier(package) or not (weights / package).is_dir():
        raise OperatorError(
            f"{package!r} is neither a package folder (NAME/VERSION) nor a name in {weights}"
        )
    return active_version(weights / package)


def _is_installed(folder: Path, options: dict[str, str | None]) -> bool:
    """Whether a server with these settings runs the package too."""
    weights = resolve_options(options).settings.weights_dir
    return folder.resolve().is_relative_to(weights.resolve())


def check_files(folder: Path) -> dict[str, Any]:
    """Check the files of a package without running its model.

    Raises:
        PackageError: see load_package, check_unpacked_size, read_onnx and read_openvino_file.
    """
    from app.packages.onnx_file import read_onnx
    from app.packages.openvino_file import read_openvino_file
    from app.packages.package import load_package
    from app.packages.torchscript_file import check_unpacked_size

    package = load_package(folder)
    if package.manifest.model.format == "torchscript":
        check_unpacked_size(package.model_path)
    elif not package.sealed:
        read = read_onnx if package.manifest.model.format == "onnx" else read_openvino_file
        read(package.model_path)
    samples = len(package.golden.images) if package.golden else 0
    digest = package.digest
    return {"package": str(folder), "ok": True, "digest": digest, "golden_samples": samples}


def verify_package(package: "Package") -> dict[str, Any]:
    """Load a package as a server does, and compare its scores with the golden samples.

    Raises:
        PackageError: as load_classifier.
    """
    from app.inference.batch_check import find_batch_problem
    from app.inference.golden.diagnosis import find_unnoticed
    from app.inference.local import LocalClassifier

    classifier = LocalClassifier(package)
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
        "batch_problem": find_batch_problem(package, classifier.engine),
    }


def summarise(result: dict[str, Any]) -> str:
    """The result of verify_package or check_files in one or two lines."""
    if "engine" not in result:
        return "its files are complete; the model was not run, so its scores are not known"
    batches = f"\n  {ONE_AT_A_TIME}: {result['batch_problem']}" if result["batch_problem"] else ""
    if not result["golden_samples"]:
        text = "no golden samples: nothing proves that the scores are those of the training"
        return text + batches
    text = (
        f"{pluralise(result['golden_samples'], 'golden sample')}, largest score difference "
        f"{result['worst_difference']:.2g} (tolerance {result['tolerance']:g})"
    )
    if result["unnoticed"]:
        text += "\n  they would not detect: " + "; ".join(result["unnoticed"])
    return text + batches
