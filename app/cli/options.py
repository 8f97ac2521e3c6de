"""Command line options shared by commands, most of them made from the settings."""

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from app.settings import CONFIG_KEY, ResolvedSettings, Settings, describe_expected, read_settings

Command = Callable[..., Any]

PATH = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="print JSON")


def options_of(*names: str) -> Callable[[Command], Command]:
    """Make a decorator that gives a command ``--config`` and an option for each named setting."""

    def add_options(command: Command) -> Command:
        by_name = {setting.name: setting for setting in fields(Settings)}
        for setting in (by_name[name] for name in reversed(names)):
            command = click.option(
                "--" + setting.name.replace("_", "-"),
                metavar="VALUE",
                help=f"{setting.metadata['help']} ({describe_expected(setting)})",
            )(command)
        return click.option("--config", metavar="FILE", help="TOML file with settings")(command)

    return add_options


settings_options = options_of(*(setting.name for setting in fields(Settings)))
"""Gives a command ``--config`` and an option for each setting."""


def resolve_options(options: dict[str, str | None]) -> ResolvedSettings:
    """Read the settings, with command line options taking precedence.

    Raises:
        SettingsError: see read_settings.
    """
    given = {name: text for name, text in options.items() if text is not None}
    config = given.pop("config", None)
    environment = {**os.environ, CONFIG_KEY: config} if config else os.environ
    return read_settings(environment, given)
