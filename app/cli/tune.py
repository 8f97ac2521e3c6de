"""``classifyd tune``."""

import json
import sys
from dataclasses import asdict, replace

import click

from app.cli.options import resolve_options, settings_options
from app.errors import LockedPackage, OperatorError, PackageError
from app.inference.choice import Choice
from app.packages.package import Package, load_package
from app.packages.store import active_versions
from app.settings import Settings


@click.command()
@click.argument("names", nargs=-1)
@settings_options
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def tune(names: tuple[str, ...], as_json: bool, **options: str | None) -> None:
    """Measure the engines for the active packages (or those NAMED) and remember the fastest.

    A server uses the choice when its settings, this machine and the libraries are the same.
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


def _packages(settings: Settings, names: tuple[str, ...]) -> list[Package]:
    active = active_versions(settings.weights_dir).active
    unknown = sorted(set(names) - set(active))
    if unknown or not active:
        raise PackageError(
            str(settings.weights_dir),
            "",
            f"no package {', '.join(unknown) or 'is here'}; expected one of: {', '.join(active)}",
        )
    return [load_package(active[name]) for name in names or sorted(active)]


def _tune_package(package: Package, settings: Settings) -> Choice:
    # Here, so that a wrong option does not wait for torch.
    from app.inference.choice import ChoiceStore, demand_of
    from app.inference.devices import resolve_device
    from app.inference.engine import card_uuid, cuda_count
    from app.inference.tuning import tune
    from app.licence.licences import Licences

    device = resolve_device(settings.device, 0, cuda_count())
    licences = Licences(settings.licence_dir, settings.state_dir, device, card_uuid(device))
    try:
        package = replace(package, content_key=licences.unlock(package.manifest))
    except LockedPackage as exc:
        raise OperatorError(f"{exc}; classifyd licence check says what to do") from exc
    demand = demand_of(settings, device)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    return tune(package, demand, ChoiceStore(settings.state_dir), _show_progress)


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text} …", end="", file=sys.stderr, flush=True)


def format_choice(choice: Choice, precision: str) -> str:
    """Write what was measured, in the precision that was asked for, as a table."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
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
    return "\n".join(lines)
