"""``classifyd doctor``: check everything that the server depends on, and say what to do."""

import dataclasses
import io
import json
import platform
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from app.cli.calling import locate
from app.cli.doctor.certificates import check_certificates
from app.cli.doctor.finding import Finding, Findings
from app.cli.doctor.machine import check_clock, check_disk, check_fips, check_gpu
from app.cli.doctor.packages import check_licences, check_packages
from app.cli.doctor.permissions import check_permissions
from app.cli.doctor.server import check_log, check_proxy, check_server, fetch_readiness, log_lines
from app.cli.options import ALL_SETTINGS, PATH, json_option, options_of, resolve_options
from app.cli.output import print_json, writing
from app.cli.version import describe_versions
from app.errors import PackageError, SettingsError
from app.licence.standing import active_manifests
from app.observability.log_format import escape_unprintable
from app.settings import ResolvedSettings, Settings

CHECKS: tuple[Callable[[Settings], Findings], ...] = (
    *(check_server, check_permissions, check_disk, check_clock, check_fips, check_packages),
    *(check_licences, check_gpu, check_log, check_proxy, check_certificates),
)
"""In the order in which to fix what they find; none of them raises."""

_COLORS = {"failure": "red", "warning": "yellow"}

_SECRET = re.compile(r"token|password|secret|key", re.IGNORECASE)


@click.command()
@json_option
@click.option("--bundle", type=PATH, metavar="FILE", help="write an archive for support, tar.gz")
@options_of("weights_dir", "state_dir", "port", hidden=ALL_SETTINGS)
def doctor(as_json: bool, bundle: Path | None, **options: str | None) -> None:
    """Check settings, machine, packages, licences and log; use sudo to check everything.

    It checks the server that runs on this machine. The exit status is 1 if it finds a failure.

    \b
    Examples:
        sudo classifyd doctor
        sudo classifyd doctor --bundle support.tar.gz
    """
    resolved = None
    try:
        resolved = resolve_options(options)
    except SettingsError as exc:
        findings = [Finding("failure", "configuration", str(exc), "correct the setting")]
    else:
        # Its address and log may come from an environment that this command does not have.
        if resolved.sources["port"] != "command line":
            resolved = dataclasses.replace(resolved, settings=locate(resolved.settings))
        findings = [_check_sources(resolved)]
        findings += [found for check in CHECKS for found in check(resolved.settings)]
    rows = [dataclasses.asdict(finding) for finding in findings]
    if as_json:
        print_json(rows)
    else:
        _print_text(findings)
    if bundle is not None:
        _write_bundle(bundle, {"findings.json": rows, **_bundle_files(resolved)})
    if any(finding.level == "failure" for finding in findings):
        sys.exit(1)


def _check_sources(resolved: ResolvedSettings) -> Finding:
    sources = sorted(set(resolved.sources.values()) - {"default"})
    text = f"from {', '.join(sources) or 'defaults only'}"
    if resolved.ignored:
        text += f"; variables of a Kubernetes Service are ignored: {', '.join(resolved.ignored)}"
    return Finding("ok", "configuration", text)


def _print_text(findings: list[Finding]) -> None:
    for finding in findings:
        text = escape_unprintable(finding.text, "\n")
        level = click.style(f"{finding.level:<8}", fg=_COLORS.get(finding.level))
        click.echo(f"{level} {finding.subject:<13} {text}")
        if finding.to_do:
            print(f"{'':<22} -> {finding.to_do}")


def _bundle_files(resolved: ResolvedSettings | None) -> dict[str, Any]:
    """What support needs, by file name: no key, no token, no image, no model."""
    settings = resolved.settings if resolved else Settings()
    files = {
        "machine.json": platform.uname()._asdict() | describe_versions(),
        "log.txt": "\n".join(log_lines(settings) or []),
    }
    if resolved is None:
        return files
    return files | {
        "settings.json": {
            name: "(hidden)" if _SECRET.search(name) else str(value)
            for name, value in vars(settings).items()
        },
        "readyz.json": fetch_readiness(settings),
        "manifests.json": _manifests(settings),
    }


def _manifests(settings: Settings) -> list[dict[str, Any]]:
    try:
        return [dataclasses.asdict(m) for m in active_manifests(settings.weights_dir)]
    except PackageError:
        return []  # reported by check_packages


def _write_bundle(path: Path, files: dict[str, Any]) -> None:
    with writing(path), tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            text = (
                content if isinstance(content, str) else json.dumps(content, indent=2, default=str)
            )
            data = text.encode()
            entry = tarfile.TarInfo(f"classifyd-support/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    print(f"{path}: written, for support", file=sys.stderr)
