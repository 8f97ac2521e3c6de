"""``classifyd doctor``: what is well, what is not, and what to do about it."""

import dataclasses
import io
import json
import platform
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import click

from app.cli.doctor.machine import Finding, log_lines
from app.cli.doctor.server import ask_server, diagnose
from app.cli.options import resolve_options, settings_options
from app.errors import OperatorError, PackageError, SettingsError
from app.licence.standing import active_manifests
from app.settings import ResolvedSettings, Settings

_SECRET = re.compile(r"token|password|secret|key", re.IGNORECASE)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.option("--bundle", type=click.Path(path_type=Path), help="write an archive for support")
@settings_options
def doctor(as_json: bool, bundle: Path | None, **options: str | None) -> None:
    """Check configuration, machine, packages, licences and log; with sudo it sees all."""
    try:
        resolved = resolve_options(options)
    except SettingsError as exc:
        # Nothing else can be looked at before this is mended.
        findings = [Finding("failure", "configuration", str(exc), "correct the setting")]
        _print(findings, as_json)
        if bundle is not None:
            _write_bundle(bundle, {"findings.json": _as_rows(findings), **_everywhere(Settings())})
        sys.exit(1)
    origins = sorted(set(resolved.sources.values()) - {"default"})
    first = Finding("ok", "configuration", f"from {', '.join(origins) or 'defaults alone'}")
    findings = [first, *diagnose(resolved.settings)]
    _print(findings, as_json)
    if bundle is not None:
        _write_bundle(bundle, _contents(resolved, findings))
    if any(finding.level == "failure" for finding in findings):
        sys.exit(1)


def _print(findings: list[Finding], as_json: bool) -> None:
    if as_json:
        print(json.dumps(_as_rows(findings), indent=2))
        return
    for finding in findings:
        print(f"{finding.level:<8} {finding.subject:<13} {finding.text}")
        if finding.to_do:
            print(f"{'':<22} -> {finding.to_do}")


def _as_rows(findings: list[Finding]) -> list[dict[str, str]]:
    return [dataclasses.asdict(finding) for finding in findings]


def _contents(resolved: ResolvedSettings, findings: list[Finding]) -> dict[str, Any]:
    """What support asks for, by file: no key, no token, no image, no model."""
    settings = resolved.settings
    return {
        "findings.json": _as_rows(findings),
        "settings.json": {
            name: "(hidden)" if _SECRET.search(name) else str(value)
            for name, value in vars(settings).items()
        },
        "readyz.json": ask_server(settings),
        "manifests.json": _manifests(settings),
        **_everywhere(settings),
    }


def _everywhere(settings: Settings) -> dict[str, Any]:
    return {
        "machine.json": platform.uname()._asdict() | {"python": sys.version},
        "log.txt": "\n".join(log_lines(settings) or []),
    }


def _manifests(settings: Settings) -> list[dict[str, Any]]:
    try:
        return [dataclasses.asdict(m) for m in active_manifests(settings.weights_dir)]
    except PackageError:
        return []  # told by the findings


def _write_bundle(path: Path, files: dict[str, Any]) -> None:
    try:
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                _add(archive, name, content)
    except OSError as exc:
        raise OperatorError(f"{path} cannot be written: {exc.strerror}") from exc
    print(f"{path}: written, for support", file=sys.stderr)


def _add(archive: tarfile.TarFile, name: str, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content, indent=2, default=str)
    data = text.encode()
    entry = tarfile.TarInfo(f"classifyd-support/{name}")
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
