"""``classifyd package``: list and inspect the packages of the weights folder."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from app.cli.options import json_option, options_of, resolve_options
from app.cli.output import print_facts, print_json
from app.cli.package.build import build
from app.cli.package.demo import demo
from app.cli.package.optimise import optimise
from app.cli.package.verify import verify
from app.cli.package.versions import activate, archive, install, remove, rollback
from app.cli.sections import SectionGroup
from app.errors import PackageError
from app.packages.store import (
    active_version,
    desired_version,
    existing_name,
    existing_version,
    previous_versions,
    visible_folders,
)
from app.serving.status_file import live_workers

Row = dict[str, Any]


@click.group(cls=SectionGroup)
def package() -> None:
    """Build, check, install and activate model packages.

    \b
    Example:
        classifyd package list
    """


@click.command("list")
@options_of("weights_dir")
@json_option
def list_packages(as_json: bool, **options: str | None) -> None:
    """List all versions of all packages; * marks the active ones.

    \b
    Example:
        classifyd package list
    """
    weights_dir = resolve_options(options).settings.weights_dir
    rows = [
        row
        for folder in visible_folders(weights_dir).values()
        for row in _describe_versions(folder)
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        mark = "*" if row["active"] else " "
        problem = f"  {row['problem']}" if row["problem"] else ""
        print(f"{mark} {row['name']}/{row['version']}{problem}")


@click.command()
@click.argument("package_name", metavar="NAME[/VERSION]")
@options_of("weights_dir", "state_dir", "trusted_keys")
@json_option
def info(package_name: str, as_json: bool, **options: str | None) -> None:
    """Check the files of a package and describe it; without VERSION, of the active one.

    \b
    Examples:
        classifyd package info imagenet
        classifyd package info imagenet/2 --json
    """
    settings = resolve_options(options).settings
    name, _, version = package_name.partition("/")
    name_folder = existing_name(settings.weights_dir, name)
    folder = (
        existing_version(settings.weights_dir, name, version)
        if version
        else active_version(name_folder)
    )
    row = _describe_package(folder)
    row["active"] = desired_version(name_folder).folder == folder
    row["previous"] = []
    with suppress(PackageError):
        row["previous"] = previous_versions(name_folder)
    row["signed_by"] = _describe_signature(folder, settings.trusted_keys)
    row["served_by_pids"] = [
        worker.pid
        for worker in live_workers(settings.state_dir, settings.weights_dir)
        if name in worker.names and worker.names[name].version == folder.name
    ]
    print_facts(row, as_json)


def _describe_versions(name_folder: Path) -> list[Row]:
    desired = desired_version(name_folder)
    row = {"name": name_folder.name, "version": "", "active": False, "problem": ""}
    rows: list[Row] = [
        {**row, "version": version, "active": folder == desired.folder}
        for version, folder in visible_folders(name_folder).items()
    ]
    return [*rows, {**row, "problem": desired.problem.problem}] if desired.problem else rows


def _describe_package(folder: Path) -> Row:
    # Imported here: a list of versions does not need OpenCV.
    from app.packages.package import load_package

    loaded = load_package(folder)
    manifest = loaded.manifest
    spec = manifest.input
    return {
        "name": manifest.name,
        "version": manifest.version,
        "folder": str(folder),
        "digest": loaded.digest,
        "classes": manifest.output.classes,
        "task": manifest.output.task,
        "input": f"{spec.channels} x {spec.height} x {spec.width} {spec.layout} {spec.dtype}",
        "model": f"{manifest.model.format}, {manifest.model.precision}",
        "model_bytes": loaded.model_path.stat().st_size,
        "labels": [*loaded.labels[:3], *(["..."] if len(loaded.labels) > 3 else [])],
    }


def _describe_signature(folder: Path, trusted_folder: Path) -> str:
    from app.packages.manifest import MANIFEST_FILE
    from app.packages.signing import SIGNATURE_FILE, check_signature, read_trusted_keys, signer
    from app.settings import Settings

    if not (folder / SIGNATURE_FILE).exists():
        return "nobody"
    signature = (folder / SIGNATURE_FILE).read_bytes()
    key = signer(signature, str(folder / SIGNATURE_FILE))
    trusted = read_trusted_keys(trusted_folder, Settings().trusted_keys)
    if trusted is None:
        return f"{key} (not checked: no trusted_keys)"
    check_signature((folder / MANIFEST_FILE).read_bytes(), signature, trusted, str(folder))
    return f"{key} (checked)"


for command in (
    *(build, demo, optimise, verify, list_packages, info),
    *(install, activate, rollback, remove, archive),
):
    package.add_command(command)
