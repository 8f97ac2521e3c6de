"""A group of commands whose help lists them in sections."""

from collections.abc import Iterable
from typing import Any

import click

MAX_SUMMARY = 200
"""Longer than every summary: click would cut them, here they are wrapped."""

OTHERS = "Commands"


class SectionGroup(click.Group):
    """Lists its commands in sections, in the order in which they were added."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._section_of: dict[str, str] = {}

    def add_section(self, title: str, commands: Iterable[click.Command]) -> None:
        """Add commands below a heading."""
        for command in commands:
            self.add_command(command)
            self._section_of[str(command.name)] = title

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order in which they were added."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section with the whole summaries of its commands."""
        width = max(map(len, self.commands), default=0)
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            row = (name.ljust(width), command.get_short_help_str(MAX_SUMMARY))
            sections.setdefault(self._section_of.get(name, OTHERS), []).append(row)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)
