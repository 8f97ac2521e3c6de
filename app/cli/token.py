"""``classifyd token``: the access tokens of callers."""

import datetime

import click

from app.access_tokens import add_token, read_tokens, revoke_token
from app.cli.options import json_option, options_of, resolve_options
from app.cli.output import print_json, print_result
from app.cli.sections import SectionGroup


@click.group(cls=SectionGroup)
def token() -> None:
    """Manage access tokens; a running server reads the changes at once.

    \b
    Example:
        classifyd token add till-1 > till-1.token
    """


@token.command()
@click.argument("name")
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="last valid day, in UTC",
)
@json_option
@options_of("tokens_file", "state_dir")
def add(name: str, expires: datetime.datetime | None, as_json: bool, **options: str | None) -> None:
    """Create a token for NAME and print it; it is not shown again.

    \b
    Example:
        classifyd token add till-1 --expires 2027-12-31 > till-1.token
    """
    settings = resolve_options(options).settings
    path = settings.tokens_path()
    created = add_token(path, name, expires.date() if expires else None)
    print_result({"name": name, "token": created, "file": str(path)}, created, as_json)
    click.echo(f"written to {path} as a hash: it cannot be shown again", err=True)
    if settings.access_tokens == "off":
        click.echo("access_tokens is off: set it to on, or no token is required", err=True)


@token.command("list")
@json_option
@options_of("tokens_file", "state_dir")
def list_tokens(as_json: bool, **options: str | None) -> None:
    """List the tokens by name.

    \b
    Example:
        classifyd token list
    """
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
@json_option
@options_of("tokens_file", "state_dir")
def revoke(name: str, as_json: bool, **options: str | None) -> None:
    """Delete the token of NAME.

    \b
    Example:
        classifyd token revoke till-1
    """
    revoke_token(resolve_options(options).settings.tokens_path(), name)
    print_result({"revoked": name}, f"{name} is rejected from now on", as_json)
