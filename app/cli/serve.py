"""``classifyd serve``."""

import os
import sys

import click

from app.cli.options import resolve_options, settings_options
from app.server.preflight import check_start, require_free_port
from app.settings import CONFIG_KEY, ENVIRONMENT_PREFIX, PROJECT_ROOT

GUNICORN_VARIABLES = ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY")
"""Configure gunicorn past the settings and their checks."""


@click.command()
@settings_options
def serve(**options: str | None) -> None:
    """Start the server in the foreground."""
    resolved = resolve_options(options)
    check_start(resolved.settings)
    require_free_port(resolved.settings)
    _drop_gunicorn_variables()
    for name, source in resolved.sources.items():
        if source == "command line":
            value = getattr(resolved.settings, name)
            os.environ[ENVIRONMENT_PREFIX + name.upper()] = str(value)
    if options["config"]:
        os.environ[CONFIG_KEY] = os.path.abspath(options["config"])
    config = PROJECT_ROOT / "gunicorn.conf.py"
    sys.stdout.flush()
    os.execv(  # noqa: S606 - our own interpreter, no shell; gunicorn replaces this process
        sys.executable, [sys.executable, "-m", "gunicorn", "--config", str(config)]
    )


def _drop_gunicorn_variables() -> None:
    found = [name for name in GUNICORN_VARIABLES if os.environ.pop(name, None) is not None]
    if found:
        names = " and ".join(found)
        print(f"classifyd: {names} ignored: use the settings instead", file=sys.stderr)
