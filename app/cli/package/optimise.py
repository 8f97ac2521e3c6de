"""``classifyd package optimise``: a faster version of a package, within a drop of accuracy."""

import os
from pathlib import Path

import click

from app.cli.exits import USE_SUDO
from app.cli.options import json_option, options_of, output_option, resolve_options
from app.cli.output import clear_status, print_columns, print_json, show_status, writing
from app.cli.package.verify import verify_package
from app.errors import FailedError, OperatorError
from app.packages.store import active_version, existing_name, existing_version


@click.command()
@click.argument("package_name", metavar="NAME[/VERSION]")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    metavar="PATH",
    help="labelled photos: a folder per label, or a CSV file with file and label",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="how much of the top-1 may be lost, in points of 100",
)
@output_option("HTML report to write (default: optimisation-NAME-VERSION.html)")
@json_option
@options_of("weights_dir")
def optimise(
    package_name: str,
    data: Path,
    max_drop: float,
    output: Path | None,
    as_json: bool,
    **options: str | None,
) -> None:
    """Write the fastest version of a package that loses little accuracy on your photos.

    Tries bfloat16, int8, int8 with the most sensitive layers in float32, and scaled_decode. One
    half of the photos calibrates, the other half measures. The result is the next version, with
    golden samples of its own scores; it is not activated. Writes an HTML report, and the same as
    JSON.

    \b
    Example:
        classifyd package optimise pets --data photos/ --max-drop 0.5
    """
    name, _, version = package_name.partition("/")
    name_folder = existing_name(resolve_options(options).settings.weights_dir, name)
    folder = (
        existing_version(name_folder.parent, name, version)
        if version
        else active_version(name_folder)
    )
    path = output or Path(f"optimisation-{name}-{folder.name}.html")
    # Before the minutes that it takes.
    _require_writable(name_folder, path.parent)
    # Imported here: a wrong name is reported without loading torch.
    from app.evaluation.dataset import read_dataset
    from app.optimisation.optimisation import optimise as run
    from app.optimisation.report import HEAD, conclusion, table_rows, to_json, write_report
    from app.packages.package import load_package

    package = load_package(folder)
    _require_plain(folder, package.sealed, package.manifest.model.format)
    samples = read_dataset(data, package.labels, package.manifest.output.task)
    try:
        result = run(package, samples, max_drop / 100, verify_package, show_status)
    finally:
        clear_status()
    with writing(path):
        write_report(path, result)
    if as_json:
        print_json(to_json(result) | {"report": str(path)})
    else:
        print_columns([HEAD, *table_rows(result, intervals=False)])
        print(conclusion(result))
        print(f"report: {path}")
    if result.package is None:
        raise FailedError(f"{folder}: nothing is faster within the drop; see {path}")
    if not as_json:
        print(f"activate: classifyd package activate {name} {result.package.folder.name}")


def _require_writable(*folders: Path) -> None:
    for folder in folders:
        if not os.access(folder, os.W_OK):
            raise OperatorError(f"{folder} cannot be written{USE_SUDO}")


def _require_plain(folder: Path, sealed: bool, model_format: str) -> None:
    if sealed:
        raise OperatorError(
            f"{folder}: the package is sealed, and only its publisher can change it: optimise the "
            "open package there, and seal the new version (classifyd licence seal)"
        )
    if model_format == "openvino":
        raise OperatorError(
            f"{folder} is optimised already; name the version that it was made from: "
            "classifyd package optimise NAME/VERSION"
        )
