"""``classifyd batch``: classify many photos, each to a row of a results folder."""

import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from app.batch.job import Compute, Job, Shard, ShardRows
from app.batch.processes import run_processes
from app.batch.results import Plan, ResultsFolder, open_results
from app.batch.rows import FORMATS, default_format, require_format
from app.batch.run import Run
from app.batch.sources import open_source
from app.cli.licences import unlock
from app.cli.options import PATH, json_option, options_of, renamed, resolve_options
from app.cli.output import clear_status, print_result, show_status
from app.cli.package.verify import find_package
from app.inference.tuning.selection import give_to_owner
from app.packages.package import load_package
from app.reporting.counts import pluralise

ENGINE_SETTINGS = (
    "engine",
    "precision",
    "score_tolerance_permille",
    "workers",
    "inference_threads",
)
INTERRUPTED_STATUS = 130
"""What a shell reports of a command that SIGINT has ended."""


@click.command(context_settings=renamed(out="output"))
@click.argument("source")
@click.option("--package", required=True, help="NAME, or a folder NAME/VERSION")
@click.option(
    *("-o", "--output", "out"),
    type=PATH,
    metavar="FOLDER",
    required=True,
    help="folder of the results",
)
@click.option("--format", "row_format", type=click.Choice(list(FORMATS)), help="of the rows")
@click.option(
    "--top-num", type=click.IntRange(min=1), default=6, show_default=True, help="number of classes"
)
@click.option("--ray", metavar="ADDRESS", help="of a Ray cluster that computes")
@click.option("--restart", is_flag=True, help="delete the rows of another run in the folder")
@json_option
@options_of(*("weights_dir", "device", *ENGINE_SETTINGS), hidden=("licence_dir", "state_dir"))
def batch(
    source: str,
    package: str,
    out: Path,
    row_format: str | None,
    top_num: int,
    ray: str | None,
    restart: bool,
    as_json: bool,
    **options: str | None,
) -> None:
    """Classify all photos of SOURCE, and write a row for each to the folder --output.

    SOURCE is a folder, a list of paths, a tar (plain or gzip) or s3://BUCKET/PREFIX. The rows
    are written in parts, as Parquet if pyarrow is installed and as JSON lines otherwise. A photo
    that cannot be classified has a row with its error. A sealed package is opened with the
    licence of this machine's server.

    An interrupted run goes on when the same command is given again. The exit status is 0 if all
    photos are classified, 1 if some have an error, and larger if the run did not end.

    \b
    Example:
        classifyd batch photos/ --package imagenet --output results
    """
    settings = resolve_options(options).settings
    if ray and settings.device not in {"auto", "cpu"}:
        raise click.UsageError("--ray computes on CPUs")
    unlocked = unlock(load_package(find_package(package, options)), settings)
    with open_results(out.absolute()) as folder:
        show_status("listing the photos")
        photos = open_source(source, folder.folder)
        plan = Plan(
            source=photos.name,
            photos=len(photos.photos),
            listing=photos.digest(),
            package=f"{unlocked.manifest.name} {unlocked.manifest.version}",
            digest=unlocked.digest,
            format=row_format or _default_format(folder, restart),
            top_num=top_num,
            engine=settings.engine,
            precision=unlocked.manifest.model.computed_precision(settings.precision),
            device=settings.device,
        )
        require_format(plan.format)
        run = Run(photos, folder, folder.begin(plan, restart))
        job = Job(photos.reader, unlocked.folder, settings, plan.format, top_num)
        _write_rows(run, job, ray)
        summary = _summarise(run, photos.passed_over, plan)
        folder.write_summary(summary)
    print_result(summary, _as_text(summary), as_json)
    sys.exit(1 if run.errors else 0)


def _default_format(folder: ResultsFolder, restart: bool) -> str:
    return folder.plan.format if folder.plan and not restart else default_format()


def _write_rows(run: Run, job: Job, ray: str | None) -> None:
    show_status("loading the model")
    compute = _on_ray(run, ray, job) if ray else _on_this_machine(run, job)
    try:
        for _ in run.write(compute):
            _show_progress(run, run.done - run.earlier)
    except KeyboardInterrupt:
        clear_status()
        done = f"{run.done:,} of {pluralise(run.photos, 'photo')} have rows"
        print(f"classifyd: interrupted, {done}; the same command goes on", file=sys.stderr)
        sys.exit(INTERRUPTED_STATUS)
    finally:
        clear_status()


def _on_this_machine(run: Run, job: Job) -> Compute:
    def report(classified: int) -> None:
        run.begin_clock()
        _show_progress(run, classified)

    def compute(shards: Sequence[Shard]) -> Iterator[ShardRows]:
        job.settings.state_dir.mkdir(parents=True, exist_ok=True)
        try:
            yield from run_processes(job, shards, report)
        finally:
            give_to_owner(job.settings.state_dir)

    return compute


def _on_ray(run: Run, address: str, job: Job) -> Compute:
    def compute(shards: Sequence[Shard]) -> Iterator[ShardRows]:
        # Imported here: it imports torch, and Ray.
        from app.batch.ray_cluster import run_on_ray

        run.begin_clock()
        return run_on_ray(address, job, shards)

    return compute


def _show_progress(run: Run, classified: int) -> None:
    rate = run.rate(classified)
    done = run.earlier + classified
    left = ""
    if rate:
        left = f", {timedelta(seconds=round((run.photos - done) / rate))} left"
    failed = f", {run.errors.total():,} with an error" if run.errors else ""
    share = f"{done:,} of {run.photos:,} photos ({done / run.photos:.1%})"
    show_status(f"{share}, {rate:.0f}/s{left}{failed}", ending="")


def _summarise(run: Run, passed_over: int, plan: Plan) -> dict[str, Any]:
    classified = run.done - run.earlier
    return {
        "out": str(run.out),
        "photos": run.photos,
        "errors": {str(code): count for code, count in sorted(run.errors.items())},
        "passed_over": passed_over,
        "earlier": run.earlier,
        "images_per_s": round(run.rate(classified), 1),
        "package": plan.package,
        "digest": plan.digest,
        "format": plan.format,
    }


def _as_text(summary: dict[str, Any]) -> str:
    lines = [f"{pluralise(summary['photos'], 'photo')} in {summary['out']}"]
    if summary["images_per_s"]:
        lines[0] += f", {summary['images_per_s']} images/s"
    if summary["earlier"]:
        lines.append(f"{pluralise(summary['earlier'], 'row')} of an earlier run")
    for code, count in summary["errors"].items():
        lines.append(f"{pluralise(count, 'photo')} with error {code}")
    if summary["passed_over"]:
        lines.append(f"passed over: {summary['passed_over']} hidden files, links to folders, ...")
    return "\n  ".join(lines)
