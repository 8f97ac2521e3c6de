"""``classifyd tune``: measure the engines, and select one for each package."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from app.cli.licences import unlock
from app.cli.options import ALL_SETTINGS, json_option, options_of, resolve_options
from app.cli.output import clear_status, print_json, show_status
from app.errors import FailedError, LockedPackage, PackageError
from app.inference.tuning.selection import EngineSelection, LatencyMeasurement, give_to_owner
from app.packages.package import Package, load_package
from app.packages.store import desired_versions
from app.reporting.counts import pluralise
from app.settings import Settings

TUNE_SETTINGS = (
    *("weights_dir", "state_dir", "licence_dir", "device", "workers", "inference_threads"),
    *("engine", "precision", "score_tolerance_permille"),
)


@click.command()
@click.argument("names", nargs=-1)
@options_of(*TUNE_SETTINGS, hidden=ALL_SETTINGS)
@json_option
def tune(names: tuple[str, ...], as_json: bool, **options: str | None) -> None:
    """Measure the engines for all active packages, or those of NAMES, and save the fastest.

    A server uses the selection while its settings, the machine and the libraries are the same.
    A sealed package is opened with its licence; without NAMES, packages without a valid licence
    are skipped.

    \b
    Example:
        classifyd tune imagenet
    """
    settings = resolve_options(options).settings
    selections = {
        package.manifest.name: (
            package.manifest.model.computed_precision(settings.precision),
            _tune_package(package, settings),
        )
        for package in _packages(settings, names)
    }
    if as_json:
        print_json({k: {"precision": p} | asdict(found) for k, (p, found) in selections.items()})
        return
    for name, (precision, selection) in selections.items():
        print(f"{name}\n{_format_selection(selection, precision)}")
    if not selections:
        raise FailedError("no package was measured: none has a valid licence")


def _packages(settings: Settings, names: tuple[str, ...]) -> list[Package]:
    versions = desired_versions(settings.weights_dir)
    active = {name: version.folder for name, version in versions.items() if version.folder}
    unknown = sorted(set(names) - set(active))
    if unknown or not active:
        raise PackageError(
            settings.weights_dir,
            f"no package {', '.join(unknown) or 'found'}; expected one of: {', '.join(active)}",
        )
    if names:
        return [unlock(load_package(active[name]), settings) for name in names]
    return list(_unlocked(settings, [active[name] for name in sorted(active)]))


def _unlocked(settings: Settings, folders: list[Path]) -> Iterator[Package]:
    for folder in folders:
        try:
            yield unlock(load_package(folder), settings)
        except LockedPackage as exc:
            print(f"classifyd: skipped: {exc}", file=sys.stderr)


def _tune_package(package: Package, settings: Settings) -> EngineSelection:
    # Imported here: a wrong option is reported without loading torch.
    from app.inference.engines.base import cuda_count
    from app.inference.engines.devices import resolve_device
    from app.inference.tuning.selection import engine_requirements
    from app.inference.tuning.tuner import tune

    requirements = engine_requirements(settings, resolve_device(settings.device, 0, cuda_count()))
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    try:
        return tune(package, requirements, settings.state_dir, show_status)
    finally:
        clear_status()
        give_to_owner(settings.state_dir)


def _format_selection(selection: EngineSelection, precision: str) -> str:
    """Format the measurements in the requested precision as a table."""
    lines = [
        f"  {'engine':<26} {'precision':<9} {'batch':>5} {'ms/image':>9} {'max difference':>17}"
    ]
    for row in selection.measurements:
        is_chosen = (row.engine, row.batch) == (selection.engine, selection.max_batch)
        note = row.problem or ("chosen" if is_chosen else "")
        speed = f"{row.batch or '-':>5} {f'{row.ms:.2f}' if row.ms else '-':>9}"
        figures = f"{row.engine:<26} {precision:<9} {speed} {row.difference:>17.6f}"
        lines.append(f"  {figures}  {note}".rstrip())
    if selection.latency:
        lines.append(_format_latency(selection.latency))
    return "\n".join(lines)


def _format_latency(latency: LatencyMeasurement) -> str:
    return (
        f"  uncontended image: {latency.ms:.2f} ms on {pluralise(latency.cores, 'core')}, "
        f"{latency.one_core_ms:.2f} ms on one; max difference {latency.difference:.6f}"
        f"{'  chosen' if latency.chosen else ''}"
    )
