"""``classifyd licence``: the commands for a customer's server."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import click

from app.cli.licence.publisher import issue, keygen, seal
from app.cli.licences import judge_licences
from app.cli.options import (
    ALL_SETTINGS,
    PATH,
    json_option,
    options_of,
    output_option,
    renamed,
    resolve_options,
)
from app.cli.output import print_facts, print_json, print_result, writing
from app.cli.sections import SectionGroup
from app.licence.clock import ClockRecord
from app.licence.facts import gpu_models, is_container, read_facts
from app.licence.fingerprint import MACHINE_FACTS, fingerprint_bytes, take_fingerprint
from app.licence.folder import Decision
from app.licence.keys import clock_key, ensure_machine_key
from app.licence.licence import Licence, Tolerance, read_licence, to_time
from app.reporting.counts import pluralise
from app.system.files import atomic_write


@click.group(cls=SectionGroup)
def licence() -> None:
    """Request, issue, show and check the licences of sealed packages.

    \b
    Example:
        sudo classifyd licence check
    """


@licence.command(context_settings=renamed(out="output"))
@output_option("file to write", default=Path("fingerprint.json"))
@json_option
@options_of("state_dir", hidden=ALL_SETTINGS)
def fingerprint(output: Path, as_json: bool, **options: str | None) -> None:
    """Write the fingerprint of this machine, to send to the publisher.

    It contains salted hashes of hardware facts and a public key, but nothing that identifies
    this machine to others. Use sudo: only root can read some facts.

    \b
    Example:
        sudo classifyd licence fingerprint --output fingerprint.json
    """
    settings = resolve_options(options).settings
    facts = read_facts()
    with writing(settings.state_dir):
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        key = ensure_machine_key(settings.state_dir)
        ClockRecord(settings.state_dir, clock_key(key)).create()
    taken = take_fingerprint(facts, gpu_models(), key.public_key().public_bytes_raw())
    with writing(output), atomic_write(output) as stream:
        stream.write(fingerprint_bytes(taken))
    found, gpus = pluralise(len(taken.facts), "fact"), pluralise(len(taken.cards), "GPU")
    text = f"{output}: written, with {found} and {gpus}"
    missing = [kind for kind in MACHINE_FACTS if kind not in facts]
    if missing:
        hint = " (sudo may read more)" if os.geteuid() != 0 else ""
        if is_container():
            hint = "; mount those of the host, see docs/containers.md"
        text += f"\nnot found or not readable: {', '.join(missing)}{hint}"
    row = {"file": str(output), "facts": sorted(taken.facts), "missing": missing}
    print_result({**row, "gpus": len(taken.cards)}, text, as_json)


@licence.command()
@click.argument("file", type=PATH)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show the content of a licence file, for any machine.

    \b
    Example:
        classifyd licence show licences/pets.licence
    """
    print_facts(_summary(read_licence(file)), as_json)


@licence.command()
@json_option
@options_of("weights_dir", "licence_dir", "state_dir", "device", hidden=ALL_SETTINGS)
def check(as_json: bool, **options: str | None) -> None:
    """Check the licence of each active package, and say how to fix problems.

    The exit status is 1 if a package is without a valid licence.

    \b
    Example:
        sudo classifyd licence check
    """
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
        "tolerance": _describe_tolerance(tolerance, len(granted.facts)),
    }


def _describe_tolerance(tolerance: Tolerance, facts: int) -> str:
    """Say how many facts must match, and what happens if fewer do."""
    text = f"{tolerance.required} of {pluralise(facts, 'fact')} must match"
    if tolerance.partial == tolerance.required:
        return f"{text}; with fewer it is not valid"
    grace = pluralise(tolerance.grace_days, "day")
    return f"{text}; with {tolerance.partial} it stays valid for {grace}, with fewer not at all"


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
