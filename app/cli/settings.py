"""``classifyd settings``."""

from dataclasses import fields

import click

from app.cli.options import ALL_SETTINGS, json_option, options_of, resolve_options
from app.cli.output import print_columns, print_json
from app.settings import Settings


@click.command()
@options_of(hidden=ALL_SETTINGS)
@json_option
def settings(as_json: bool, **options: str | None) -> None:
    """Show each setting's value and source.

    It takes the options of classifyd serve too, and shows what they would change.

    \b
    Examples:
        classifyd settings
        classifyd settings --config /etc/classifyd/classifyd.toml --json
    """
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
    print_columns(
        [
            [row["name"], "-" if row["value"] is None else row["value"], row["source"]]
            for row in rows
        ]
    )


def _to_json(value: object) -> str | int | None:
    return value if isinstance(value, int | None) else str(value)
