"""``classifyd licence``: the commands for a customer's server."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import click

from app.cli.licence.publisher import issue, keygen, seal
from app.cli.licences import judge_licences
from app.cli.options import PATH, json_option, resolve_options, settings_options
from app.cli.output import print_facts, print_json, writing
from app.licence.clock import ClockRecord
from app.licence.facts import gpu_models, read_facts
from app.licence.fingerprint import MACHINE_FACTS, fingerprint_bytes, take_fingerprint
from app.licence.folder import Decision
from app.licence.keys import clock_key, ensure_machine_key
from app.licence.licence import Licence, read_licence, to_time
from app.reporting.counts import pluralise
from app.system.files import atomic_write


@click.group()
def licence() -> None:
    """Request, issue, show and check the licences of sealed packages."""


@licence.command()
@click.option(
    "--out",
    type=PATH,
    default=Path("fingerprint.json"),
    show_default=True,
    help="file to write",
)
@settings_options
def fingerprint(out: Path, **options: str | None) -> None:
    """Write the fingerprint of this machine, to send to the publisher.

    It contains salted hashes of hardware facts and a public key, but nothing that identifies
    this machine to others. Use sudo: only root can read some facts.
    """
    settings = resolve_options(options).settings
    facts = read_facts()
    with writing(settings.state_dir):
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        key = ensure_machine_key(settings.state_dir)
        ClockRecord(settings.state_dir, clock_key(key)).create()
    taken = take_fingerprint(facts, gpu_models(), key.public_key().public_bytes_raw())
    with writing(out), atomic_write(out) as stream:
        stream.write(fingerprint_bytes(taken))
    found, gpus = pluralise(len(taken.facts), "fact"), pluralise(len(taken.cards), "GPU")
    print(f"{out}: written, with {found} and {gpus}")
    if missing := [kind for kind in MACHINE_FACTS if kind not in facts]:
        hint = " (sudo may read more)" if os.geteuid() != 0 else ""
        print(f"not found or not readable: {', '.join(missing)}{hint}")


@licence.command()
@click.argument("file", type=PATH)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show the content of a licence file, for any machine."""
    print_facts(_summary(read_licence(file)), as_json)


@licence.command()
@json_option
@settings_options
def check(as_json: bool, **options: str | None) -> None:
    """Check the licence of each active package, and say how to fix problems."""
    judged = judge_licences(resolve_options(options).settings)
    decisions = {manifest.name: decision for manifest, decision in judged}
    if as_json:
        print_json({name: _as_json(decision) for name, decision in decisions.items()})
    elif not decisions:
        print("No active package needs a licence.")
    else:
        print("\n".join(line for name, d in decisions.items() for line in _as_lines(name, d)))
    if not all(decision.verdict.serves for decision in decisions.values()):
        sys.exit(1)


for command in (keygen, seal, issue):
    licence.add_command(command)


def _summary(granted: Licence) -> dict[str, Any]:
    tolerance = granted.tolerance
    return {
        "serial": granted.serial,
        "licensee": granted.licensee,
        "deploy names": list(granted.deploy_names),
        "device": granted.device,
        "issued": to_time(granted.issued),
        "not before": to_time(granted.not_before),
        "expires": "never" if granted.expires is None else to_time(granted.expires),
        "facts": list(granted.facts),
        "tolerance": f"{pluralise(tolerance.required, 'fact')} must match; with "
        f"{tolerance.partial}, valid for {pluralise(tolerance.grace_days, 'more day')}",
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
