"""``classifyd settings``."""

from dataclasses import fields

import click

from app.cli.options import json_option, resolve_options, settings_options
from app.cli.output import print_json
from app.settings import Settings


@click.command()
@settings_options
@json_option
def settings(as_json: bool, **options: str | None) -> None:
    """Show each setting's value and source."""
    resolved = resolve_options(options)
    rows = [
        {
            "name": setting.name,
            "value": _to_json(getattr(resolved.settings, setting.name)),
            "source": resolved.sources[setting.name],
        }
        for setting in fields(Settings)
    ]
    if as_json:
        print_json(rows)
        return
    width = max(len(str(row["value"])) for row in rows)
    for row in rows:
        print(f"{row['name']:<20} {row['value']!s:<{width}}  {row['source']}")


def _to_json(value: object) -> str | int | None:
    return value if isinstance(value, int | None) else str(value)
