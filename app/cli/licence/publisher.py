"""``classifyd licence``: the commands for a publisher."""

import datetime
from pathlib import Path

import click

from app.cli.options import PATH, json_option, output_option, renamed
from app.cli.output import print_result, writing
from app.errors import LicenceError
from app.folders import FOLDERS
from app.licence.fingerprint import Fingerprint, read_fingerprint
from app.licence.issue import GRACE_DAYS, issue_licence, seal_package
from app.licence.keys import make_publisher_key
from app.licence.licence import LICENCE_SUFFIX, read_licence, sign_licence, to_time
from app.packages.signing import read_private_key
from app.system.files import atomic_write

TRIAL_DAYS = 30

_key_option = click.option(
    "--key",
    type=PATH,
    default=Path("publisher.key"),
    show_default=True,
    help="private key of the publisher",
)


@click.command()
@_key_option
@json_option
def keygen(key: Path, as_json: bool) -> None:
    """Create the publisher's key pair in one file; keep it secret, and back it up.

    \b
    Example:
        classifyd licence keygen --key publisher.key
    """
    make_publisher_key(key)
    text = f"{key}: written; keep it secret and back it up: licences cannot be issued without it"
    print_result({"file": str(key)}, text, as_json)


@click.command()
@click.argument("package", type=PATH)
@_key_option
@click.option("--contact", required=True, help="whom to ask for a licence: name and address")
@click.option(
    "--weights-dir",
    type=PATH,
    default=FOLDERS.output / "sealed",
    help="where to write NAME/VERSION (default: dist/sealed)",
)
@json_option
def seal(package: Path, key: Path, contact: str, weights_dir: Path, as_json: bool) -> None:
    """Write a copy of a PACKAGE, NAME/VERSION, that requires a licence.

    \b
    Example:
        classifyd licence seal weights/pets/1 --contact 'Example Ltd <licence@example.com>'
    """
    sealed = seal_package(package, weights_dir, read_private_key(key), contact)
    text = f"{sealed.folder}: sealed; deliver this folder, and keep the original private"
    print_result({"folder": str(sealed.folder)}, text, as_json)


@click.command(context_settings=renamed(out="output"))
@click.argument("fingerprint", type=PATH)
@_key_option
@click.option("--licensee", required=True, help="name of the customer")
@click.option("--name", "names", multiple=True, required=True, help="deploy name; repeatable")
@click.option(
    "--device",
    type=click.Choice(["cpu", "gpu"]),
    default="cpu",
    show_default=True,
    help="what computes",
)
@click.option("--card", type=click.IntRange(min=0), help="index of a GPU of the fingerprint")
@click.option("--not-before", type=click.DateTime(["%Y-%m-%d"]), help="first valid day, in UTC")
@click.option("--trial", is_flag=True, help=f"valid for {TRIAL_DAYS} days")
@click.option("--days", type=click.IntRange(1, 36_500), help="number of days")
@click.option("--permanent", is_flag=True, help="without expiry")
@click.option(
    "--grace-days",
    type=click.IntRange(0, 365),
    default=GRACE_DAYS,
    show_default=True,
    help="days of validity after too much of the machine changed",
)
@output_option("licence to write (default: SERIAL.licence)")
@json_option
def issue(
    fingerprint: Path,
    key: Path,
    licensee: str,
    names: tuple[str, ...],
    device: str,
    card: int | None,
    not_before: datetime.datetime | None,
    trial: bool,
    days: int | None,
    permanent: bool,
    grace_days: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Sign a licence for the FINGERPRINT file of a customer.

    \b
    Example:
        classifyd licence issue fingerprint.json --licensee 'A Customer' --name pets --days 365
    """
    if trial + permanent + (days is not None) != 1:
        raise click.UsageError("give one of --trial, --days and --permanent")
    publisher, machine = read_private_key(key), read_fingerprint(fingerprint)
    granted = issue_licence(
        publisher,
        machine,
        licensee,
        names,
        card=_pick_gpu(machine, card) if device == "gpu" else None,
        not_before=_to_seconds(not_before),
        days=TRIAL_DAYS if trial else days,
        grace_days=grace_days,
    )
    path = output or Path(f"{granted.serial}{LICENCE_SUFFIX}")
    with writing(path), atomic_write(path) as stream:
        stream.write(sign_licence(granted, publisher))
    read_licence(path)
    end = "without expiry" if granted.expires is None else f"until {to_time(granted.expires)}"
    text = f"{path}: {', '.join(names)} on one {granted.device} machine of {licensee}, {end}"
    expires = None if granted.expires is None else to_time(granted.expires)
    row = {"file": str(path), "serial": granted.serial, "expires": expires}
    print_result(row, text, as_json)


def _pick_gpu(machine: Fingerprint, index: int | None) -> str:
    gpus = list(machine.cards)
    if index is None and len(gpus) == 1:
        return gpus[0]
    if index is None or index >= len(gpus):
        found = "; ".join(f"{i}: {model}" for i, model in enumerate(machine.cards.values()))
        raise LicenceError(f"choose a GPU of the fingerprint with --card: {found or 'none'}")
    return gpus[index]


def _to_seconds(moment: datetime.datetime | None) -> int | None:
    if moment is None:
        return None
    return int(moment.replace(tzinfo=datetime.UTC).timestamp())
