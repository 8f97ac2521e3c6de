"""``classifyd settings``."""

import json
from dataclasses import fields

import click

from app.cli.options import resolve_options, settings_options
from app.settings import Settings


@click.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def settings(as_json: bool, **options: str | None) -> None:
    """Show the settings in force and where each came from."""
    resolved = resolve_options(options)
    rows = [
        {
            "name": setting.name,
            "value": _plain(getattr(resolved.settings, setting.name)),
            "source": resolved.sources[setting.name],
        }
        for setting in fields(Settings)
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    width = max(len(str(row["value"])) for row in rows)
    for row in rows:
        print(f"{row['name']:<20} {row['value']!s:<{width}}  {row['source']}")


def _plain(value: object) -> str | int | None:
    return value if isinstance(value, int | None) else str(value)
