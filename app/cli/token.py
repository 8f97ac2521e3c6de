"""``classifyd token``: who may call."""

import datetime
import json
import os
from pathlib import Path

import click

from app.access_tokens import add_token, read_tokens, revoke_token
from app.settings import CONFIG_KEY, Settings, read_settings


def _tokens_path(config: str | None, tokens_file: Path | None) -> Path:
    if tokens_file:
        return tokens_file
    environment = {**os.environ, CONFIG_KEY: config} if config else os.environ
    return read_settings(environment).settings.tokens_path()


_config = click.option("--config", metavar="FILE", help="TOML file with settings")
_file = click.option(
    "--tokens-file",
    type=click.Path(path_type=Path),
    help="the tokens file, in place of the one that the settings name",
)


@click.group()
def token() -> None:
    """Give callers access tokens and take them back; a running server sees it at once."""


@token.command()
@click.argument("name")
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="the last day (UTC) on which it is valid",
)
@_config
@_file
def add(
    name: str, expires: datetime.datetime | None, config: str | None, tokens_file: Path | None
) -> None:
    """Make a token for NAME and print it, this once."""
    path = _tokens_path(config, tokens_file)
    print(add_token(path, name, expires.date() if expires else None))
    click.echo(f"written to {path} as a hash: it cannot be shown again", err=True)
    _warn_when_off(config)


def _warn_when_off(config: str | None) -> None:
    environment = {**os.environ, CONFIG_KEY: config} if config else os.environ
    settings: Settings = read_settings(environment).settings
    if settings.access_tokens == "off":
        click.echo("access_tokens is off here: set it to on, or nobody is asked", err=True)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@_config
@_file
def list_tokens(as_json: bool, config: str | None, tokens_file: Path | None) -> None:
    """List the tokens by name."""
    today = datetime.datetime.now(datetime.UTC).date()
    rows = [
        {
            "name": entry.name,
            "created": entry.created,
            "expires": entry.expires or None,
            "expired": entry.has_expired(today),
        }
        for entry in read_tokens(_tokens_path(config, tokens_file))
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        end = f"until {row['expires']}" if row["expires"] else "without end"
        mark = "  EXPIRED" if row["expired"] else ""
        print(f"{row['name']:<24} since {row['created']}  {end}{mark}")
    if not rows:
        click.echo("there is no token; make one with classifyd token add NAME", err=True)


@token.command()
@click.argument("name")
@_config
@_file
def revoke(name: str, config: str | None, tokens_file: Path | None) -> None:
    """Take the token of NAME back."""
    revoke_token(_tokens_path(config, tokens_file), name)
    click.echo(f"{name} is refused from now on", err=True)
