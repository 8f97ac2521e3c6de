"""Command line options made from the settings' fields."""

import os
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from app.settings import CONFIG_KEY, ResolvedSettings, Settings, describe_expected, read_settings

Command = Callable[..., Any]


def settings_options(command: Command) -> Command:
    """Give a command ``--config`` and one option for each setting."""
    for setting in reversed(fields(Settings)):
        command = click.option(
            "--" + setting.name.replace("_", "-"),
            metavar="VALUE",
            help=f"{setting.metadata['help']} ({describe_expected(setting)})",
        )(command)
    return click.option("--config", metavar="FILE", help="TOML file with settings")(command)


def resolve_options(options: dict[str, str | None]) -> ResolvedSettings:
    """Read the settings with the options on top.

    Raises:
        SettingsError: see read_settings.
    """
    given = {name: text for name, text in options.items() if text is not None}
    config = given.pop("config", None)
    environment = {**os.environ, CONFIG_KEY: config} if config else os.environ
    return read_settings(environment, given)
