"""``classifyd evaluate``: the quality of a package on labelled images."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.calling import calling_options, find_endpoint
from app.cli.licences import load_unlocked
from app.cli.options import (
    ALL_SETTINGS,
    PATH,
    json_option,
    options_of,
    output_option,
    renamed,
    resolve_options,
)
from app.cli.output import print_result, report_progress, writing
from app.cli.package.verify import find_package
from app.errors import OperatorError
from app.inference.tuning.selection import give_to_owner
from app.reporting.counts import pluralise
from app.settings import Settings

if TYPE_CHECKING:
    from app.evaluation.comparison import Side
    from app.evaluation.dataset import Sample
    from app.evaluation.metrics import Metrics
    from app.evaluation.outcomes import DistinctLabels, Failure, Outcome
    from app.evaluation.report import About
    from app.evaluation.served import ServedClassifier
    from app.inference.local import LocalClassifier
    from app.packages.package import Package

EVALUATE_SETTINGS = ("weights_dir", "licence_dir", "state_dir", "engine", "precision", "device")
_CALLING = ("url", "name", "token_file", "cacert")


@dataclass(frozen=True)
class _Evaluated:
    """One package, evaluated."""

    about: "About"
    metrics: "Metrics"
    outcomes: "list[Outcome]"
    failures: "list[Failure]"

    def as_side(self) -> "Side":
        from app.evaluation.comparison import Side

        about = self.about
        name = f"{about.name}/{about.version}"
        return Side(name, about.engine, about.images_per_s, self.metrics)


@click.command(context_settings=renamed(report="output"))
@click.argument("package")
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@output_option("HTML report to write (default: evaluation-NAME-VERSION.html)")
@click.option("--url", metavar="URL", help="ask a server instead of computing here; see predict")
@calling_options
@click.option("--compare", metavar="VERSION", help="evaluate this version too, side by side")
@click.option("--predictions", type=PATH, metavar="FILE", help="CSV file with a line an image")
@click.option("--reference", is_flag=True, help="compare with Pillow and the unoptimised model")
@json_option
@options_of(*EVALUATE_SETTINGS, hidden=ALL_SETTINGS)
def evaluate(
    package: str,
    dataset: Path,
    output: Path | None,
    compare: str | None,
    predictions: Path | None,
    reference: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Evaluate a PACKAGE (NAME, or a folder NAME/VERSION) on a DATASET.

    The dataset is a folder with one folder per label, or a CSV file with the columns file and
    label. Writes an HTML report, and the same as JSON. A sealed package is opened with the
    licence of this machine's server.

    The model is computed as a server with the same settings does: with another --engine,
    --precision or --device than the defaults, by the engine that tuning selects. With --url the
    answers are those of a server.

    \b
    Examples:
        classifyd evaluate imagenet photos/ --output evaluation.html
        classifyd evaluate imagenet photos/ --precision bfloat16 --compare 2
    """
    calling = {name: options.pop(name) for name in _CALLING}
    if calling["url"] and reference:
        raise click.UsageError("give --url or --reference, not both")
    loaded = load_unlocked(find_package(package, options), options)
    other = _find_other(loaded, compare, options) if compare else None
    settings = resolve_options(options).settings
    # Imported here: other commands do not need torch.
    from app.evaluation.dataset import read_dataset
    from app.evaluation.metrics import to_json
    from app.evaluation.outcomes import DistinctLabels
    from app.evaluation.predictions import write_predictions
    from app.evaluation.report import write_report

    samples = read_dataset(dataset, loaded.labels, loaded.manifest.output.task)
    classifier = _served(loaded, calling, options) if calling["url"] else _local(loaded, settings)
    found = _evaluate(classifier, samples, str(dataset), reference)
    compared = _compare(found, other, settings, samples, str(dataset)) if other else None
    names = DistinctLabels(loaded.labels).names
    about, metrics, failures = found.about, found.metrics, found.failures
    path = output or Path(f"evaluation-{about.name}-{about.version}.html")
    with writing(path):
        write_report(path, about, metrics, failures, names, comparison=compared)
    if predictions:
        with writing(predictions):
            write_predictions(predictions, found.outcomes, failures, names)
    extra = {
        **{"engine": about.engine, "failures": len(failures)},
        **{"images_per_s": about.images_per_s, "report": str(path)},
        **({"comparison": compared.document()} if compared else {}),
    }
    lines = [
        summarise_metrics(about, metrics, failures),
        *([compared.sentence()] if compared else []),
        *_describe_confused(metrics, names),
        f"report: {path}",
    ]
    print_result({**to_json(metrics, names), **extra}, "\n".join(lines), as_json)


def _find_other(package: "Package", version: str, options: dict[str, Any]) -> "Package":
    other = load_unlocked(find_package(str(package.folder.parent / version), options), options)
    if other.labels != package.labels:
        raise OperatorError(
            f"--compare {version}: {other.folder} has other labels, or the same in another order"
        )
    return other


def _local(package: "Package", settings: Settings) -> "LocalClassifier":
    """Load a package as a server with these settings does.

    With the default settings that needs no tuning: every engine that could be selected has been
    compared with TorchScript in float32.
    """
    from app.inference.local import LocalClassifier

    defaults = Settings()
    if all(getattr(settings, k) == getattr(defaults, k) for k in ("engine", "precision", "device")):
        return LocalClassifier(package)
    from app.inference.engines.base import cuda_count
    from app.inference.engines.devices import resolve_device
    from app.inference.tuning.loader import TunedLoader
    from app.inference.tuning.selection import engine_requirements

    required = engine_requirements(settings, resolve_device(settings.device, 0, cuda_count()))
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    report_progress("loading the model; the first time its engines are measured")
    try:
        loader = TunedLoader(required, settings.state_dir)
        return LocalClassifier(package, loader.load, required.threads)
    finally:
        give_to_owner(settings.state_dir)


def _served(
    package: "Package", calling: dict[str, Any], options: dict[str, Any]
) -> "ServedClassifier":
    from app.evaluation.served import ServedClassifier

    name = calling.pop("name") or package.manifest.name
    return ServedClassifier(package, find_endpoint(name=name, options=options, **calling))


def _evaluate(
    classifier: "LocalClassifier | ServedClassifier",
    samples: "Sequence[Sample]",
    dataset: str,
    reference: bool = False,
) -> _Evaluated:
    from app.evaluation.metrics import compute_metrics
    from app.evaluation.outcomes import DistinctLabels
    from app.evaluation.report import About

    package = classifier.package
    labels = DistinctLabels(package.labels)
    started = time.monotonic()
    outcomes, failures = classify_all(classifier, samples, labels, reference)
    about = About(
        name=package.manifest.name,
        version=package.manifest.version,
        digest=package.digest,
        engine=classifier.name,
        task=package.manifest.output.task,
        dataset=dataset,
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        images_per_s=round(len(samples) / (time.monotonic() - started), 1),
    )
    return _Evaluated(about, compute_metrics(outcomes, labels.names), outcomes, failures)


def _compare(
    found: _Evaluated,
    other: "Package",
    settings: Settings,
    samples: "Sequence[Sample]",
    dataset: str,
) -> Any:
    from app.evaluation.comparison import compare

    others = _evaluate(_local(other, settings), samples, dataset)
    return compare(found.as_side(), others.as_side(), found.outcomes, others.outcomes)


def _describe_confused(metrics: "Metrics", names: "Sequence[str]") -> list[str]:
    pairs = [f"{names[a]} as {names[b]} ({count})" for a, b, count in metrics.most_confused[:5]]
    return [f"most confused: {', '.join(pairs)}"] if pairs else []


def classify_all(
    classifier: "LocalClassifier | ServedClassifier",
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
        f"{metrics.top5:.2%}, macro F1 {metrics.macro_f1:.2%}, calibration error "
        f"{metrics.calibration_error:.2%}, {about.images_per_s} images/s ({about.engine})"
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
