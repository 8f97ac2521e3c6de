"""The subcommands of ``classifyd package`` that change the weights folder, and ``archive``."""

import json
from pathlib import Path
from typing import Any

import click

from app.cli.options import options_of, resolve_options
from app.cli.package.wait import wait_options, wait_until_served
from app.packages.store import existing_version
from app.settings import Settings

_json_option = click.option("--json", "as_json", is_flag=True, help="print JSON")


@click.command()
@click.argument("archive", type=click.Path(path_type=Path))
@options_of("weights_dir", "trusted_keys")
@_json_option
def install(archive: Path, as_json: bool, **options: str | None) -> None:
    """Check an archive and unpack it; a name's first version is active at once."""
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
    state = "active" if is_active else f"to use it: classifyd package activate {name} {version}"
    _print(row, f"{name}/{version} is installed; {state}", as_json)


@click.command()
@click.argument("name")
@click.argument("version")
@wait_options
@options_of("weights_dir", "state_dir")
@_json_option
def activate(
    name: str, version: str, wait: bool, timeout: int, as_json: bool, **options: str | None
) -> None:
    """Make a version the one that is served.

    A running server loads it beside the version before and then switches. When it cannot be
    loaded, the version before stays; with --wait the activation is taken back then.
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
@_json_option
def rollback(name: str, wait: bool, timeout: int, as_json: bool, **options: str | None) -> None:
    """Go back to the version that was active before; again, to the one before that."""
    from app.packages.changes import roll_back

    settings = resolve_options(options).settings
    activation = roll_back(settings.weights_dir, name)
    workers = wait_until_served(settings, activation, timeout) if wait else None
    _print_activation(name, activation.folder.name, workers, as_json)


@click.command()
@click.argument("name")
@click.argument("version", required=False)
@click.option("--all", "whole_name", is_flag=True, help="the deploy name with all its versions")
@options_of("weights_dir")
@_json_option
def remove(
    name: str, version: str | None, whole_name: bool, as_json: bool, **options: str | None
) -> None:
    """Delete a version that is not active, or with --all the whole deploy name."""
    from app.packages.changes import remove_name, remove_version

    if (version is None) != whole_name:
        raise click.UsageError("give either VERSION or --all")
    weights_dir = resolve_options(options).settings.weights_dir
    if version is None:
        remove_name(weights_dir, name)
    else:
        remove_version(weights_dir, name, version)
    removed = f"{name}/{version}" if version else name
    _print({"removed": removed}, f"{removed} is removed", as_json)


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="default NAME-VERSION.tar")
@click.option("--sign", type=click.Path(path_type=Path), help="Ed25519 private key, PEM")
@options_of("weights_dir")
@_json_option
def archive(
    name: str,
    version: str,
    output: Path | None,
    sign: Path | None,
    as_json: bool,
    **options: str | None,
) -> None:
    """Write a version as one file, to be installed elsewhere."""
    from app.packages.archive import write_archive

    folder = existing_version(resolve_options(options).settings.weights_dir, name, version)
    target = output or Path(f"{name}-{version}.tar")
    write_archive(folder, target, sign)
    row = {"file": str(target), "bytes": target.stat().st_size}
    _print(row, f"{target}: {row['bytes']} bytes", as_json)


def _print_activation(name: str, version: str, workers: int | None, as_json: bool) -> None:
    text = f"{name}/{version} is active"
    if workers == 0:
        text += "; no running server uses this weights folder"
    elif workers is not None:
        text += f" and served by {workers} worker{'s' if workers > 1 else ''}"
    row: dict[str, Any] = {"name": name, "version": version}
    _print(row if workers is None else {**row, "workers": workers}, text, as_json)


def _print(row: dict[str, Any], text: str, as_json: bool) -> None:
    print(json.dumps(row, ensure_ascii=False) if as_json else text)
