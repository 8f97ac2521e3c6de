"""The subcommands of ``classifyd``."""

import click

from app.cli.batch import batch
from app.cli.bench import bench
from app.cli.doctor.command import doctor
from app.cli.evaluate import evaluate
from app.cli.explain import explain
from app.cli.licence.group import licence
from app.cli.logs import logs
from app.cli.package.group import package
from app.cli.predict import predict
from app.cli.sections import SectionGroup
from app.cli.serve import serve
from app.cli.settings import settings
from app.cli.token import token
from app.cli.train import train
from app.cli.tune import tune
from app.cli.version import print_version

SECTIONS = {
    "Serve": (serve, settings, token),
    "Classify": (predict, batch, explain),
    "Models": (package, train, evaluate, tune, licence),
    "Operate": (doctor, logs, bench),
}


@click.group(
    cls=SectionGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the version, the commit and the libraries, and exit.",
)
def cli() -> None:
    """Serve trained image classifiers on this machine over a REST API.

    \b
    Examples:
        classifyd serve
        classifyd predict photo.jpg
        classifyd help package build
    """


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def show_help(context: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command.

    \b
    Example:
        classifyd help package build
    """
    found: click.Command = cli
    context = context.find_root()
    for word in words:
        below = found.get_command(context, word) if isinstance(found, click.Group) else None
        if below is None:
            raise click.UsageError(f"there is no command {' '.join(words)!r}", context)
        context, found = click.Context(below, context, word), below
    click.echo(found.get_help(context))


for section, commands in SECTIONS.items():
    cli.add_section(section, commands)
cli.add_section("Help", (show_help,))
