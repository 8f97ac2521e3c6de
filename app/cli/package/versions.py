"""``classifyd package``: install, activate, roll back, remove and archive versions."""

from pathlib import Path
from typing import Any

import click

from app.cli.options import PATH, json_option, options_of, output_option, resolve_options
from app.cli.output import print_result
from app.cli.package.rollout import wait_options, wait_until_served
from app.packages.store import existing_version
from app.reporting.counts import pluralise
from app.settings import Settings


@click.command()
@click.argument("archive", type=PATH)
@options_of("weights_dir", "trusted_keys")
@json_option
def install(archive: Path, as_json: bool, **options: str | None) -> None:
    """Check and unpack an archive; the first version of a name is activated.

    \b
    Example:
        classifyd package install pets-2.tar
    """
    from app.packages.archive import install_archive
    from app.packages.signing import read_trusted_keys
    from app.packages.store import desired_version

    settings = resolve_options(options).settings
    trusted = read_trusted_keys(settings.trusted_keys, Settings().trusted_keys)
    installed = install_archive(archive, settings.weights_dir, trusted)
    name, version = installed.manifest.name, installed.manifest.version
    is_active = desired_version(installed.folder.parent).folder == installed.folder
    row = {
        "name": name,
        "version": version,
        "active": is_active,
        "digest": installed.digest,
        "signature_checked": trusted is not None,
    }
    state = "active" if is_active else f"activate: classifyd package activate {name} {version}"
    print_result(row, f"{name}/{version} is installed; {state}", as_json)


@click.command()
@click.argument("name")
@click.argument("version")
@wait_options
@options_of("weights_dir", "state_dir")
@json_option
def activate(
    name: str, version: str, wait: bool, timeout: int, as_json: bool, **options: str | None
) -> None:
    """Activate a version.

    A running server loads it while the previous version serves, then switches. If loading
    fails, the previous version stays; with --wait, the activation is also reverted.

    \b
    Example:
        classifyd package activate pets 2 --wait
    """
    from app.packages.changes import activate as activate_version

    settings = resolve_options(options).settings
    activation = activate_version(settings.weights_dir, name, version)
    workers = wait_until_served(settings, activation, timeout) if wait else None
    _print_activation(name, version, workers, as_json)


@click.command()
@click.argument("name")
@wait_options
@options_of("weights_dir", "state_dir")
@json_option
def rollback(name: str, wait: bool, timeout: int, as_json: bool, **options: str | None) -> None:
    """Activate the previously active version; repeat to go further back.

    \b
    Example:
        classifyd package rollback pets --wait
    """
    from app.packages.changes import roll_back

    settings = resolve_options(options).settings
    activation = roll_back(settings.weights_dir, name)
    workers = wait_until_served(settings, activation, timeout) if wait else None
    _print_activation(name, activation.folder.name, workers, as_json)


@click.command()
@click.argument("name")
@click.argument("version", required=False)
@click.option("--all", "whole_name", is_flag=True, help="the deploy name and all its versions")
@options_of("weights_dir")
@json_option
def remove(
    name: str, version: str | None, whole_name: bool, as_json: bool, **options: str | None
) -> None:
    """Delete an inactive version, or with --all the whole deploy name.

    \b
    Examples:
        classifyd package remove pets 1
        classifyd package remove pets --all
    """
    from app.packages.changes import remove_name, remove_version

    if (version is None) != whole_name:
        raise click.UsageError("give either VERSION or --all")
    weights_dir = resolve_options(options).settings.weights_dir
    if version is None:
        remove_name(weights_dir, name)
    else:
        remove_version(weights_dir, name, version)
    removed = f"{name}/{version}" if version else name
    print_result({"removed": removed}, f"{removed} is removed", as_json)


@click.command()
@click.argument("name")
@click.argument("version")
@output_option("archive to write (default: NAME-VERSION.tar)")
@click.option("--sign", type=PATH, help="Ed25519 private key, PEM file")
@options_of("weights_dir")
@json_option
def archive(
    name: str,
    version: str,
    output: Path | None,
    sign: Path | None,
    as_json: bool,
    **options: str | None,
) -> None:
    """Write a version to one file, for installation on another machine.

    \b
    Example:
        classifyd package archive pets 2 --output pets-2.tar --sign builder.key
    """
    from app.packages.archive import write_archive

    folder = existing_version(resolve_options(options).settings.weights_dir, name, version)
    target = output or Path(f"{name}-{version}.tar")
    write_archive(folder, target, sign)
    row = {"file": str(target), "bytes": target.stat().st_size}
    print_result(row, f"{target}: {row['bytes']} bytes", as_json)


def _print_activation(name: str, version: str, workers: int | None, as_json: bool) -> None:
    text = f"{name}/{version} is active"
    if workers == 0:
        text += "; no running server uses this weights folder"
    elif workers is not None:
        text += f" and served by {pluralise(workers, 'worker')}"
    row: dict[str, Any] = {"name": name, "version": version}
    print_result(row if workers is None else {**row, "workers": workers}, text, as_json)
