"""The classifyd command."""

import sys

import click

from app.cli.bench import bench
from app.cli.doctor.command import doctor
from app.cli.evaluate import evaluate
from app.cli.licence.group import licence
from app.cli.logs import logs
from app.cli.package.group import package
from app.cli.predict import predict
from app.cli.serve import serve
from app.cli.settings import settings
from app.cli.token import token
from app.cli.train import train
from app.cli.tune import tune
from app.errors import OperatorError

USE_SUDO = "; use sudo or the service's account"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="classifyd")
def cli() -> None:
    """Serve trained image classifiers on this machine over a REST API."""


COMMANDS = (
    *(train, serve, predict, evaluate, package, settings),
    *(licence, token, logs, doctor, tune, bench),
)

for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command; a failure that the user can fix ends with one line and status 2."""
    try:
        cli()
    except OperatorError as exc:
        hint = USE_SUDO if isinstance(exc.__cause__, PermissionError) else ""
        print(f"classifyd: {exc}{hint}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of the output, such as head, has exited.
        sys.exit(141)
    except OSError as exc:
        # Handled by no command: usually a folder that this account cannot enter.
        hint = USE_SUDO if isinstance(exc, PermissionError) else ""
        print(f"classifyd: {exc.filename or 'input/output'}: {exc.strerror}{hint}", file=sys.stderr)
        sys.exit(2)
