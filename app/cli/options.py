"""Command line options made from the settings' fields."""

import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import click

from app.settings import CONFIG_KEY, ResolvedSettings, Settings, describe_expected, read_settings

Command = Callable[..., Any]


def settings_options(command: Command) -> Command:
    """Give a command ``--config`` and one option for each setting."""
    return options_of(*(setting.name for setting in fields(Settings)))(command)


def options_of(*names: str) -> Callable[[Command], Command]:
    """Make what gives a command ``--config`` and an option for each of these settings."""
    return lambda command: _add_options(command, names)


def _add_options(command: Command, names: Sequence[str]) -> Command:
    by_name = {setting.name: setting for setting in fields(Settings)}
    for setting in (by_name[name] for name in reversed(names)):
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
