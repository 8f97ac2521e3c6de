"""``classifyd tune``."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from app.cli.options import resolve_options, settings_options
from app.cli.progress import clear_status, show_status
from app.cli.unlocking import unlock
from app.errors import LockedPackage, PackageError
from app.inference.tuning.selection import FOLDER, EngineSelection, LatencyMeasurement
from app.packages.package import Package, load_package
from app.packages.store import desired_versions
from app.settings import Settings


@click.command()
@click.argument("names", nargs=-1)
@settings_options
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def tune(names: tuple[str, ...], as_json: bool, **options: str | None) -> None:
    """Measure the engines for the active packages (or those NAMED) and remember the fastest.

    A server uses the choice when its settings, this machine and the libraries are the same.
    A sealed package is opened with its licence; without NAMES those that none opens are left
    out.
    """
    settings = resolve_options(options).settings
    report = {
        package.manifest.name: _tune_package(package, settings)
        for package in _packages(settings, names)
    }
    if as_json:
        found = {
            name: {"precision": settings.precision, **asdict(choice)}
            for name, choice in report.items()
        }
        print(json.dumps(found, indent=2))
        return
    for name, choice in report.items():
        print(f"{name}\n{format_choice(choice, settings.precision)}")
    if not report:
        sys.exit(1)


def _packages(settings: Settings, names: tuple[str, ...]) -> list[Package]:
    versions = desired_versions(settings.weights_dir)
    active = {name: version.folder for name, version in versions.items() if version.folder}
    unknown = sorted(set(names) - set(active))
    if unknown or not active:
        raise PackageError(
            str(settings.weights_dir),
            "",
            f"no package {', '.join(unknown) or 'is here'}; expected one of: {', '.join(active)}",
        )
    if names:
        return [unlock(load_package(active[name]), settings) for name in names]
    return list(_unlocked(settings, [active[name] for name in sorted(active)]))


def _unlocked(settings: Settings, folders: list[Path]) -> Iterator[Package]:
    for folder in folders:
        try:
            yield unlock(load_package(folder), settings)
        except LockedPackage as exc:
            print(f"classifyd: left out: {exc}", file=sys.stderr)


def _tune_package(package: Package, settings: Settings) -> EngineSelection:
    # Here, so that a wrong option does not wait for torch.
    from app.inference.engines.base import cuda_count
    from app.inference.engines.devices import resolve_device
    from app.inference.tuning.selection import SelectionStore, engine_requirements
    from app.inference.tuning.tuner import tune

    requirements = engine_requirements(settings, resolve_device(settings.device, 0, cuda_count()))
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    try:
        return tune(package, requirements, SelectionStore(settings.state_dir), show_status)
    finally:
        clear_status()
        _give_to_owner(settings.state_dir)


def _give_to_owner(state_dir: Path) -> None:
    """Hand what root has written to the account that owns the folder: the server's."""
    if os.geteuid() == 0:
        owner = state_dir.stat()
        for path in (state_dir / FOLDER).rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def format_choice(choice: EngineSelection, precision: str) -> str:
    """Write what was measured, in the precision that was asked for, as a table."""
    head = (
        f"  {'engine':<26} {'precision':<9} {'batch':>5} {'ms/image':>9} {'worst difference':>17}"
    )
    lines = [head]
    for row in choice.measurements:
        is_chosen = (row.engine, row.batch) == (choice.engine, choice.max_batch)
        note = row.problem or ("chosen" if is_chosen else "")
        speed = f"{row.batch:>5} {row.ms:>9.2f}" if row.batch else f"{'-':>5} {'-':>9}"
        what = f"{row.engine:<26} {precision:<9} {speed} {row.difference:>17.6f}"
        lines.append(f"  {what}  {note}".rstrip())
    if choice.latency:
        lines.append(_format_alone(choice.latency))
    return "\n".join(lines)


def _format_alone(alone: LatencyMeasurement) -> str:
    return (
        f"  an image alone: {alone.ms:.2f} ms on {alone.cores} cores together, "
        f"{alone.one_core_ms:.2f} on one; worst difference {alone.difference:.6f}"
        f"{'  chosen' if alone.chosen else ''}"
    )
