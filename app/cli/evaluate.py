"""``classifyd evaluate``: how good a package is on images whose labels are known."""

import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.licences import licence_options, load_unlocked
from app.cli.package.verify import find_package
from app.errors import OperatorError

if TYPE_CHECKING:
    from app.evaluation.metrics import Metrics
    from app.evaluation.outcomes import Failure, Names
    from app.evaluation.report import About
    from app.inference.local import LocalClassifier


@click.command()
@click.argument("package")
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@click.option("--report", type=click.Path(path_type=Path), help="the HTML file to write")
@click.option("--reference", is_flag=True, help="compare with Pillow and the unoptimised model")
@click.option("--weights-dir", metavar="DIR", help="folder of the model packages, for a NAME")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@licence_options
def evaluate(
    package: str,
    dataset: Path,
    report: Path | None,
    reference: bool,
    weights_dir: str | None,
    as_json: bool,
    **options: str | None,
) -> None:
    """Evaluate a PACKAGE (NAME, or a folder NAME/VERSION) on a DATASET.

    The dataset is a folder with a folder for each label, or a CSV file with the columns
    file and label. Writes an HTML report and JSON beside it. A sealed package is opened with
    the licence that this machine's server uses.
    """
    # Here, so that the other commands do not pay for loading torch.
    from app.evaluation.dataset import read_dataset
    from app.evaluation.metrics import compute_metrics
    from app.evaluation.outcomes import Failure, Names, Outcome
    from app.evaluation.outcomes import evaluate as run
    from app.evaluation.report import write_report
    from app.inference.local import LocalClassifier

    classifier = LocalClassifier(load_unlocked(find_package(package, weights_dir), options))
    manifest, names = classifier.package.manifest, Names(classifier.package.labels)
    several = manifest.output.task == "multi_label"
    samples = read_dataset(dataset, classifier.package.labels, several)
    started = time.monotonic()
    answers = run(classifier, samples, names, reference)
    with click.progressbar(
        answers, len(samples), "evaluating", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        done: list[Outcome | Failure] = list(bar)
    images_per_s = round(len(samples) / (time.monotonic() - started), 1)
    outcomes = [entry for entry in done if isinstance(entry, Outcome)]
    failures = [entry for entry in done if isinstance(entry, Failure)]
    if not outcomes:
        raise OperatorError(f"every image was refused; {failures[0].problem}")
    metrics = compute_metrics(outcomes, names.texts)
    path = report or Path(f"evaluation-{manifest.name}-{manifest.version}.html")
    write_report(path, _about(classifier, dataset, images_per_s), metrics, failures, names.texts)
    _print(metrics, failures, names, path, images_per_s, as_json)


def _about(classifier: "LocalClassifier", dataset: Path, images_per_s: float) -> "About":
    from app.evaluation.report import About

    manifest = classifier.package.manifest
    return About(
        name=manifest.name,
        version=manifest.version,
        digest=classifier.package.digest,
        engine=classifier.engine,
        task=manifest.output.task,
        dataset=str(dataset),
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        images_per_s=images_per_s,
    )


def _print(
    metrics: "Metrics",
    failures: "Sequence[Failure]",
    names: "Names",
    path: Path,
    images_per_s: float,
    as_json: bool,
) -> None:
    from app.evaluation.metrics import to_json

    if as_json:
        extra = {"failures": len(failures), "images_per_s": images_per_s, "report": str(path)}
        print(json.dumps({**to_json(metrics, names.texts), **extra}, ensure_ascii=False))
        return
    print(
        f"{metrics.images} images: top-1 {metrics.top1:.2%}, top-5 {metrics.top5:.2%}, "
        f"calibration error {metrics.calibration_error:.2%}, {images_per_s} images/s"
    )
    if failures:
        print(f"{len(failures)} images refused, the first: {failures[0].problem}")
    if metrics.reference:
        reference = metrics.reference
        print(
            f"reference: same top class on {reference.same_top} of {reference.images}, "
            f"largest difference of a score {reference.largest_difference:.2g} "
            f"({reference.largest_difference_file})"
        )
    print(f"report: {path}")
