"""``classifyd token``: the access tokens of callers."""

import datetime

import click

from app.access_tokens import add_token, read_tokens, revoke_token
from app.cli.options import json_option, options_of, resolve_options
from app.cli.output import print_json


@click.group()
def token() -> None:
    """Manage access tokens; a running server reads the changes at once."""


@token.command()
@click.argument("name")
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="last valid day, in UTC",
)
@options_of("tokens_file")
def add(name: str, expires: datetime.datetime | None, **options: str | None) -> None:
    """Create a token for NAME and print it; it is not shown again."""
    settings = resolve_options(options).settings
    path = settings.tokens_path()
    print(add_token(path, name, expires.date() if expires else None))
    click.echo(f"written to {path} as a hash: it cannot be shown again", err=True)
    if settings.access_tokens == "off":
        click.echo("access_tokens is off: set it to on, or no token is required", err=True)


@token.command("list")
@json_option
@options_of("tokens_file")
def list_tokens(as_json: bool, **options: str | None) -> None:
    """List the tokens by name."""
    today = datetime.datetime.now(datetime.UTC).date()
    rows = [
        {
            "name": entry.name,
            "created": entry.created,
            "expires": entry.expires or None,
            "expired": entry.has_expired(today),
        }
        for entry in read_tokens(resolve_options(options).settings.tokens_path())
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        end = f"until {row['expires']}" if row["expires"] else "no expiry"
        mark = "  EXPIRED" if row["expired"] else ""
        print(f"{row['name']:<24} since {row['created']}  {end}{mark}")
    if not rows:
        click.echo("there are no tokens; create one with classifyd token add NAME", err=True)


@token.command()
@click.argument("name")
@options_of("tokens_file")
def revoke(name: str, **options: str | None) -> None:
    """Delete the token of NAME."""
    revoke_token(resolve_options(options).settings.tokens_path(), name)
    click.echo(f"{name} is rejected from now on", err=True)
