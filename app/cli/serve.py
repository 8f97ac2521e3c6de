"""``classifyd serve``."""

import os
import sys

import click

from app.cli.options import resolve_options, settings_options
from app.server.preflight import check_start, require_free_port
from app.settings import CONFIG_KEY, ENVIRONMENT_PREFIX, PROJECT_ROOT


@click.command()
@settings_options
def serve(**options: str | None) -> None:
    """Start the server in the foreground."""
    resolved = resolve_options(options)
    check_start(resolved.settings)
    require_free_port(resolved.settings)
    for name, source in resolved.sources.items():
        if source == "command line":
            value = getattr(resolved.settings, name)
            os.environ[ENVIRONMENT_PREFIX + name.upper()] = str(value)
    if options["config"]:
        os.environ[CONFIG_KEY] = os.path.abspath(options["config"])
    config = PROJECT_ROOT / "gunicorn.conf.py"
    sys.stdout.flush()
    os.execv(  # noqa: S606 - our own interpreter, no shell; gunicorn takes the terminal over
        sys.executable, [sys.executable, "-m", "gunicorn", "--config", str(config)]
    )
