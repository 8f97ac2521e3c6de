"""``classifyd serve``."""

import os
import sys

import click

from app.cli.options import resolve_options, settings_options
from app.server.preflight import check_start, require_free_port
from app.settings import CONFIG_KEY, ENVIRONMENT_PREFIX, PROJECT_ROOT, ResolvedSettings

GUNICORN_VARIABLES = ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY")
"""Configure gunicorn past the settings and their checks."""


@click.command()
@settings_options
def serve(**options: str | None) -> None:
    """Start the server in the foreground.

    \b
    Examples:
        classifyd serve
        classifyd serve --bind 0.0.0.0 --port 8123
    """
    resolved = resolve_options(options)
    check_start(resolved.settings)
    require_free_port(resolved.settings)
    _drop_gunicorn_variables()
    _pass_settings(resolved, options["config"])
    # gunicorn imports from its current folder first, which must not be a folder of the user's.
    os.chdir(PROJECT_ROOT)
    # By its path: gunicorn would not read a module again on SIGHUP.
    config = f"file:{PROJECT_ROOT / 'app/server/gunicorn_conf.py'}"
    sys.stdout.flush()
    os.execv(  # noqa: S606 - our own interpreter, no shell; gunicorn replaces this process
        sys.executable, [sys.executable, "-m", "gunicorn", "--config", config]
    )


def _pass_settings(resolved: ResolvedSettings, config: str | None) -> None:
    """Pass what the command line and the environment set, with absolute paths."""
    for name, source in resolved.sources.items():
        variable = ENVIRONMENT_PREFIX + name.upper()
        if source in {"command line", variable}:
            os.environ[variable] = str(getattr(resolved.settings, name))
    if named := config or os.environ.get(CONFIG_KEY):
        os.environ[CONFIG_KEY] = os.path.abspath(named)


def _drop_gunicorn_variables() -> None:
    found = [name for name in GUNICORN_VARIABLES if os.environ.pop(name, None) is not None]
    if found:
        names = " and ".join(found)
        print(f"classifyd: {names} ignored: use the settings instead", file=sys.stderr)
