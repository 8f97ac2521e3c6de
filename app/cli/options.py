"""Command line options shared by commands, most of them made from the settings."""

import os
from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from app.settings import (
    CONFIG_KEY,
    ResolvedSettings,
    Settings,
    describe_expected,
    is_path,
    read_settings,
)

Command = Callable[..., Any]

PATH = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="print JSON, also of an error")


def output_option(
    help_text: str, *, required: bool = False, default: Path | None = None
) -> Callable[[Command], Command]:
    """Make the option that names the file which a command writes."""
    return click.option(
        *("-o", "--output"),
        type=PATH,
        metavar="FILE",
        required=required,
        default=default,
        show_default=default is not None,
        help=help_text,
    )


def renamed(**names: str) -> dict[str, Any]:
    """Make the context settings of a command whose options had other names, which still work.

    Args:
        names: new names by old ones, without hyphens.
    """
    return {"token_normalize_func": lambda name: names.get(name, name)}


def options_of(*names: str, hidden: Iterable[str] = ()) -> Callable[[Command], Command]:
    """Make a decorator that gives a command ``--config`` and an option for each named setting.

    Args:
        names: of the settings that the command uses.
        hidden: of settings that it accepts too, without listing them in its help.
    """

    def add_options(command: Command) -> Command:
        by_name = {setting.name: setting for setting in fields(Settings)}
        for name in reversed((*names, *(name for name in hidden if name not in names))):
            command = _option(by_name[name], is_hidden=name not in names)(command)
        return click.option("--config", metavar="FILE", help="TOML file with settings")(command)

    return add_options


def _option(setting: "Field[Any]", is_hidden: bool) -> Callable[[Command], Command]:
    choices = get_args(setting.type) if get_origin(setting.type) is Literal else ()
    notes = [] if choices or is_path(setting) else [describe_expected(setting)]
    if setting.default is not None:
        notes.append(f"default: {setting.default}")
    return click.option(
        "--" + setting.name.replace("_", "-"),
        # The text is checked with that of the other sources, in read_settings.
        metavar=f"[{'|'.join(choices)}]" if choices else _metavar(setting),
        hidden=is_hidden,
        help=f"{setting.metadata['help']} ({'; '.join(notes)})"
        if notes
        else setting.metadata["help"],
    )


def _metavar(setting: "Field[Any]") -> str:
    if is_path(setting):
        return "PATH"
    return "N" if setting.type is int else "VALUE"


ALL_SETTINGS = tuple(setting.name for setting in fields(Settings))

settings_options = options_of(*ALL_SETTINGS)
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
