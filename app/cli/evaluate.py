"""``classifyd evaluate``: the quality of a package on labelled images."""

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.licences import licence_options, load_unlocked
from app.cli.options import json_option, output_option, renamed
from app.cli.output import print_result, writing
from app.cli.package.verify import find_package
from app.errors import OperatorError
from app.reporting.counts import pluralise

if TYPE_CHECKING:
    from app.evaluation.dataset import Sample
    from app.evaluation.metrics import Metrics
    from app.evaluation.outcomes import DistinctLabels, Failure, Outcome
    from app.evaluation.report import About
    from app.inference.local import LocalClassifier


@click.command(context_settings=renamed(report="output"))
@click.argument("package")
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@output_option("HTML report to write (default: evaluation-NAME-VERSION.html)")
@click.option("--reference", is_flag=True, help="compare with Pillow and the unoptimised model")
@json_option
@licence_options
def evaluate(
    package: str,
    dataset: Path,
    output: Path | None,
    reference: bool,
    as_json: bool,
    **options: str | None,
) -> None:
    """Evaluate a PACKAGE (NAME, or a folder NAME/VERSION) on a DATASET.

    The dataset is a folder with one folder per label, or a CSV file with the columns file and
    label. Writes an HTML report, and the same as JSON. A sealed package is opened with the
    licence of this machine's server.

    \b
    Example:
        classifyd evaluate imagenet photos/ --output evaluation.html
    """
    # Imported here: other commands do not need torch.
    from app.evaluation.dataset import read_dataset
    from app.evaluation.metrics import compute_metrics, to_json
    from app.evaluation.outcomes import DistinctLabels
    from app.evaluation.report import About, write_report
    from app.inference.local import LocalClassifier

    classifier = LocalClassifier(load_unlocked(find_package(package, options), options))
    manifest = classifier.package.manifest
    samples = read_dataset(dataset, classifier.package.labels, manifest.output.task)
    labels = DistinctLabels(classifier.package.labels)
    started = time.monotonic()
    outcomes, failures = classify_all(classifier, samples, labels, reference)
    about = About(
        name=manifest.name,
        version=manifest.version,
        digest=classifier.package.digest,
        engine=classifier.engine.name,
        task=manifest.output.task,
        dataset=str(dataset),
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        images_per_s=round(len(samples) / (time.monotonic() - started), 1),
    )
    metrics = compute_metrics(outcomes, labels.names)
    path = output or Path(f"evaluation-{manifest.name}-{manifest.version}.html")
    with writing(path):
        write_report(path, about, metrics, failures, labels.names)
    extra = {"failures": len(failures), "images_per_s": about.images_per_s, "report": str(path)}
    text = f"{summarise_metrics(about, metrics, failures)}\nreport: {path}"
    print_result({**to_json(metrics, labels.names), **extra}, text, as_json)


def classify_all(
    classifier: "LocalClassifier",
    samples: "Sequence[Sample]",
    labels: "DistinctLabels",
    reference: bool = False,
) -> "tuple[list[Outcome], list[Failure]]":
    """Evaluate every sample, with a progress bar; see app.evaluation.outcomes.evaluate.

    Raises:
        OperatorError: every image was rejected.
    """
    from app.evaluation.outcomes import Failure, Outcome, evaluate

    answers = evaluate(classifier, samples, labels, reference)
    with click.progressbar(
        answers, len(samples), "evaluating", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        done: list[Outcome | Failure] = list(bar)
    outcomes = [entry for entry in done if isinstance(entry, Outcome)]
    failures = [entry for entry in done if isinstance(entry, Failure)]
    if not outcomes:
        raise OperatorError(f"every image was rejected; {failures[0].problem}")
    return outcomes, failures


def summarise_metrics(about: "About", metrics: "Metrics", failures: "Sequence[Failure]") -> str:
    """The metrics in a line or a few."""
    lines = [
        f"{pluralise(metrics.images, 'image')}: top-1 {metrics.top1:.2%}, top-5 "
        f"{metrics.top5:.2%}, calibration error {metrics.calibration_error:.2%}, "
        f"{about.images_per_s} images/s"
    ]
    if failures:
        count = pluralise(len(failures), "image")
        lines.append(f"{count} rejected, the first: {failures[0].problem}")
    if reference := metrics.reference:
        lines.append(
            f"reference: same top class on {reference.same_top} of {reference.images}, "
            f"largest score difference {reference.largest_difference:.2g} "
            f"({reference.largest_difference_file})"
        )
    return "\n".join(lines)
