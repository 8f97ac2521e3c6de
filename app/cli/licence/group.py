"""``classifyd licence``: on the customer's server."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from app.cli.licence.publisher import issue, keygen, seal
from app.cli.options import resolve_options, settings_options
from app.errors import LicenceError
from app.licence.clock import ClockRecord
from app.licence.facts import gpu_models, read_facts
from app.licence.fingerprint import MACHINE_FACTS, fingerprint_bytes, take_fingerprint
from app.licence.folder import Decision, LicenceFolder
from app.licence.keys import clock_key, ensure_machine_key
from app.licence.licence import Licence, read_licence, to_time
from app.licence.standing import active_manifests, device_of
from app.system.files import atomic_write


@click.group()
def licence() -> None:
    """Licences of sealed packages: ask for one, issue one, see how they stand."""


@licence.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("fingerprint.json"),
    show_default=True,
    help="the file to write",
)
@settings_options
def fingerprint(out: Path, **options: str | None) -> None:
    """Write this machine's fingerprint, to be sent to the publisher.

    It holds salted hashes of hardware facts and a public key, and nothing that names this
    machine. Run it with sudo: some facts are only for root to read.
    """
    settings = resolve_options(options).settings
    facts = read_facts()
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        key = ensure_machine_key(settings.state_dir)
        ClockRecord(settings.state_dir, clock_key(key)).create()
        taken = take_fingerprint(facts, gpu_models(), key.public_key().public_bytes_raw())
        with atomic_write(out) as stream:
            stream.write(fingerprint_bytes(taken))
    except OSError as exc:
        raise LicenceError(f"{exc.filename or out} cannot be written: {exc.strerror}") from exc
    missing = [kind for kind in MACHINE_FACTS if kind not in facts]
    print(f"{out}: written, with {len(taken.facts)} facts and {len(taken.cards)} cards")
    if missing:
        hint = " (sudo may read more)" if os.geteuid() != 0 else ""
        print(f"not found or not readable here: {', '.join(missing)}{hint}")


@licence.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def show(file: Path, as_json: bool) -> None:
    """Show what a licence file grants, wherever it is valid."""
    granted = read_licence(file)
    summary = _summary(granted)
    if as_json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    for name, value in summary.items():
        print(f"{name:<14} {', '.join(value) if isinstance(value, list) else value}")


@licence.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@settings_options
def check(as_json: bool, **options: str | None) -> None:
    """Say for each package here whether its licence is good, and if not, what to do."""
    settings = resolve_options(options).settings
    facts = read_facts()
    device, cards = device_of(settings, facts)
    folder = LicenceFolder(settings.licence_dir, settings.state_dir, device, cards)
    decisions = {
        manifest.name: folder.best(manifest.name, manifest.licence, facts)
        for manifest in active_manifests(settings.weights_dir)
        if manifest.licence is not None
    }
    if as_json:
        print(json.dumps({name: _as_json(d) for name, d in decisions.items()}, indent=2))
    elif not decisions:
        print("No package here needs a licence.")
    else:
        print("\n".join(line for name, d in decisions.items() for line in _as_lines(name, d)))
    if not all(decision.verdict.serves for decision in decisions.values()):
        sys.exit(1)


for command in (keygen, seal, issue):
    licence.add_command(command)


def _summary(granted: Licence) -> dict[str, Any]:
    return {
        "serial": granted.serial,
        "licensee": granted.licensee,
        "deploy names": list(granted.deploy_names),
        "device": granted.device,
        "issued": to_time(granted.issued),
        "not before": to_time(granted.not_before),
        "expires": "never" if granted.expires is None else to_time(granted.expires),
        "facts": list(granted.facts),
        "tolerance": f"{granted.tolerance.required} facts must match, with "
        f"{granted.tolerance.partial} it goes on for {granted.tolerance.grace_days} days",
    }


def _as_json(decision: Decision) -> dict[str, Any]:
    licensee = decision.licence.licensee if decision.licence else ""
    return dataclasses.asdict(decision.verdict) | {"licensee": licensee}


def _as_lines(name: str, decision: Decision) -> list[str]:
    verdict, granted = decision.verdict, decision.licence
    lines = [f"{name}: {verdict.state}"]
    if granted is not None:
        ends = "permanent" if granted.expires is None else f"until {to_time(granted.expires)}"
        lines.append(f"  licence {granted.serial} for {granted.licensee}, {ends}")
        lines += [f"  {kind:<10} {result}" for kind, result in verdict.matches.items()]
    if verdict.days_left is not None:
        lines.append(f"  days left  {verdict.days_left}")
    if verdict.detail:
        lines.append(f"  {'problem' if not verdict.serves else 'notice'}    {verdict.detail}")
    if verdict.advice:
        lines.append(f"  to do      {verdict.advice}")
    elif verdict.is_warning:
        lines.append("  to do      ask the publisher to renew it; no new fingerprint is needed")
    return lines
