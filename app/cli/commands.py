"""The subcommands of ``classifyd``."""

import click

from app.cli.batch import batch
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
from app.cli.version import print_version


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the version, the commit and the libraries, and exit.",
)
def cli() -> None:
    """Serve trained image classifiers on this machine over a REST API."""


COMMANDS = (
    *(train, serve, predict, batch, evaluate, package, settings),
    *(licence, token, logs, doctor, tune, bench),
)

for command in COMMANDS:
    cli.add_command(command)
