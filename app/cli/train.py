"""``classifyd train``: from a folder of photos to a package."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.options import PATH, options_of, output_option, renamed, resolve_options
from app.cli.output import report_progress, writing
from app.errors import OperatorError
from app.packages.schema import is_identifier

if TYPE_CHECKING:
    from app.packages.package import Package
    from app.training.backbone import Backbone
    from app.training.request import TrainingRequest, TrainingResult

_NEEDED = ("imagehash", "scipy", "sklearn", "threadpoolctl", "torchvision")
_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def _duration(_: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match or not float(match[1]):
        raise click.BadParameter(f"{text!r}: expected a time such as 90s, 5m or 1h")
    return float(match[1]) * _UNITS_S[match[2]]


@click.command(context_settings=renamed(report="output"))
@click.argument("folder", type=_FOLDER)
@click.option("--name", required=True, help="deploy name, part of the URL")
@click.option(
    "--finetune/--no-finetune",
    default=None,
    help="train the last layers too; by default if --time-budget suffices",
)
@click.option("--time-budget", metavar="TIME", callback=_duration, help="such as 90s, 5m or 1h")
@click.option("--epochs", type=click.IntRange(1, 1000), help="of the fine-tuning")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="of the random numbers",
)
@click.option("--torchvision", metavar="ARCH", help="an architecture instead of EfficientNet-Lite0")
@click.option("--timm", metavar="ARCH", help="the same of timm")
@click.option("--checkpoint", type=PATH, metavar="FILE", help="its weights, a state_dict")
@click.option("--checkpoint-key", metavar="KEY", help="key of the state_dict in the checkpoint")
@click.option("--replace", is_flag=True, help="replace the latest version, instead of adding one")
@output_option("HTML report to write (default: evaluation-NAME-VERSION.html)")
@options_of("weights_dir", "state_dir", "device")
def train(folder: Path, output: Path | None, **options: Any) -> None:
    """Train a classifier on a FOLDER of photos, and build its package.

    The folder has one folder of photos per class, or train/ and val/ with those. The network is
    the demo's, EfficientNet-Lite0, or one with a checkpoint of your own. An interrupted training
    goes on with the same command.

    \b
    Example:
        classifyd train photos/ --name insects
    """
    from app.training.photos import read_photos

    # Before the seconds that torch and scikit-learn take.
    read_photos(folder)
    request = _request(folder, options)
    from app.cli.package.verify import verify_package
    from app.training.training import train as run_training

    result = run_training(request, verify_package, _make_progress())
    _report(request, result, output)


def _request(folder: Path, options: dict[str, Any]) -> "TrainingRequest":
    if not is_identifier(options["name"]):
        raise click.UsageError(f"--name {options['name']!r}: expected 1 to 64 of A-Z a-z 0-9 _ . -")
    load_backbone = _backbone_loader(options)
    _require_extra()
    # Imported here: other commands need neither torch nor scikit-learn.
    from app.training.request import TrainingRequest

    names = ("config", "weights_dir", "state_dir", "device")
    settings = resolve_options({name: options[name] for name in names}).settings
    return TrainingRequest(
        folder=folder,
        name=options["name"],
        weights_dir=settings.weights_dir,
        work_dir=settings.state_dir / "training",
        load_backbone=load_backbone,
        seed=options["seed"],
        finetune=options["finetune"],
        epochs=options["epochs"],
        time_budget_s=options["time_budget"],
        device=settings.device,
        replace=options["replace"],
    )


def _backbone_loader(options: dict[str, Any]) -> "Callable[[], Backbone]":
    torchvision, timm, checkpoint = (options[k] for k in ("torchvision", "timm", "checkpoint"))
    if torchvision and timm:
        raise click.UsageError("give one of --torchvision and --timm")
    if bool(torchvision or timm) != bool(checkpoint):
        raise click.UsageError(
            "--torchvision and --timm require --checkpoint, and the other way round; nothing is "
            "downloaded"
        )

    def load() -> "Backbone":
        from app.training import backbone

        if not checkpoint:
            return backbone.load_demo_backbone()
        load_with = (
            backbone.load_torchvision_backbone if torchvision else backbone.load_timm_backbone
        )
        return load_with(torchvision or timm, checkpoint, options["checkpoint_key"])

    return load


def _require_extra() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise OperatorError(
            f"classifyd train needs packages that are not installed ({', '.join(missing)}): "
            "pip install 'classifyd[train]', or make install in a checkout"
        )


def _make_progress() -> Any:
    from app.training.progress import Progress

    class TerminalProgress(Progress):
        """Bars and stages on a terminal, results everywhere, warnings to standard error."""

        def stage(self, text: str) -> None:
            report_progress(text)

        def line(self, text: str) -> None:
            if sys.stderr.isatty():
                print(text, file=sys.stderr, flush=True)

        def warn(self, text: str) -> None:
            print(f"classifyd: {text}", file=sys.stderr, flush=True)

        @contextmanager
        def bar(self, label: str, total: int, done: int = 0) -> Iterator[Callable[[int], object]]:
            hidden = not sys.stderr.isatty()
            with click.progressbar(
                length=total, label=label, file=sys.stderr, hidden=hidden, show_eta=True
            ) as bar:
                bar.update(done)
                yield bar.update

    return TerminalProgress()


def _report(request: "TrainingRequest", result: "TrainingResult", report: Path | None) -> None:
    """Evaluate the package on the held-out photos, as a server would, and write the report."""
    import time

    from app.cli.evaluate import classify_all, summarise_metrics
    from app.evaluation.dataset import Sample
    from app.evaluation.metrics import compute_metrics
    from app.evaluation.outcomes import DistinctLabels
    from app.evaluation.report import About, write_report
    from app.inference.local import LocalClassifier
    from app.training.section import make_section

    manifest = result.package.manifest
    classifier = LocalClassifier(result.package)
    labels = DistinctLabels(result.package.labels)
    samples = [Sample(p.photo.path, (p.photo.label,)) for p in result.data.held_out]
    started = time.monotonic()
    outcomes, failures = classify_all(classifier, samples, labels)
    about = About(
        name=manifest.name,
        version=manifest.version,
        digest=result.package.digest,
        engine=classifier.engine.name,
        task=manifest.output.task,
        dataset=f"the held-out photos of {request.folder}",
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        images_per_s=round(len(samples) / (time.monotonic() - started), 1),
    )
    metrics = compute_metrics(outcomes, labels.names)
    own = dict(zip((sample.path for sample in samples), result.chosen.scores, strict=True))
    difference = max(
        abs(score - float(own[outcome.sample.path][label]))
        for outcome in outcomes
        for label, score in zip(outcome.top, outcome.top_scores, strict=True)
    )
    path = report or Path(f"evaluation-{manifest.name}-{manifest.version}.html")
    with writing(path):
        section = make_section(result, difference)
        write_report(path, about, metrics, failures, labels.names, section)
    low, high = result.training["held_out"]["top1_interval_95"]
    print(summarise_metrics(about, metrics, failures))
    print(f"top-1 is between {low:.1%} and {high:.1%} (95 % interval); {result.chosen.method}")
    print(f"largest difference of a score from the training: {difference:.2g}")
    print(f"{result.package.folder}: built, digest {result.package.digest[:12]}")
    print(f"report: {path}")
    print(_next_step(result.package))


def _next_step(package: "Package") -> str:
    from app.packages.store import desired_version

    name, version = package.manifest.name, package.manifest.version
    if desired_version(package.folder.parent).folder == package.folder:
        return f"classifyd serve serves it at /{name}/ImageClassification"
    return f"put it into service: classifyd package activate {name} {version}"
