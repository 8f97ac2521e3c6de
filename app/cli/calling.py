"""The server that ``predict`` and ``bench`` call: named by a URL, or found on this machine."""

import os
import re
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from app.cli.options import PATH, resolve_options
from app.errors import OperatorError, UnreachableError
from app.server.preflight import local_host
from app.serving.status_file import running_servers
from app.settings import TOKEN_KEY, Settings
from app.system.endpoint import Endpoint, Trust

URL_FORM = "http[s]://HOST:PORT/NAME/ImageClassification"


def calling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--name``, ``--token-file`` and ``--cacert``."""
    options = (
        click.option(
            "--cacert", type=PATH, metavar="FILE", help="PEM file of the server's authority"
        ),
        click.option(
            "--token-file",
            type=PATH,
            metavar="FILE",
            help=f"file with the access token (default: that in ${TOKEN_KEY})",
        ),
        click.option("--name", metavar="NAME", help="deploy name, where the server has several"),
    )
    return reduce(lambda wrapped, option: option(wrapped), options, command)


def find_endpoint(
    url: str | None,
    name: str | None,
    token_file: Path | None,
    cacert: Path | None,
    options: dict[str, str | None],
) -> Endpoint:
    """Make the endpoint of a URL, or without one of the server that runs on this machine.

    Args:
        url: of the API; without a path, ``name`` must be given.
        name: deploy name; None for the only one of the server.
        token_file: see read_token.
        cacert: PEM file of the authorities that are trusted in place of the system's.
        options: the settings given on the command line; they name the state folder.

    Raises:
        UsageError: the URL is not one of an API.
        OperatorError: the token cannot be read, or the model is not clear.
        UnreachableError: no server runs here.
    """
    token = read_token(token_file)
    if url is not None:
        return parse_url(url, name, token, Trust(cacert))
    settings = resolve_options(options).settings
    server, names = find_server(settings)
    path = f"/{name or _only(names)}/ImageClassification"
    trust = None
    if server.tls_certificate:
        trust = Trust(cacert or server.tls_certificate, names_host=False)
    return Endpoint(local_host(server), server.port, path, token=token, trust=trust)


def parse_url(
    url: str, name: str | None = None, token: str = "", trust: Trust | None = None
) -> Endpoint:
    """Make the endpoint of a URL; see find_endpoint.

    Raises:
        UsageError: see find_endpoint.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        raise click.UsageError(f"the URL must have the form {URL_FORM}") from None
    path = parts.path if parts.path.strip("/") else f"/{name}/ImageClassification"
    if not parts.hostname or not (name or parts.path.strip("/")):
        raise click.UsageError(f"the URL must have the form {URL_FORM}, or give --name")
    if not _is_sendable(path + parts.query):
        raise click.UsageError("the URL contains a character that must be percent-encoded")
    query = f"?{parts.query}" if parts.query else ""
    is_https = parts.scheme == "https"
    return Endpoint(
        parts.hostname,
        port,
        path + query,
        token=token,
        trust=trust or Trust() if is_https else None,
    )


def read_token(file: Path | None) -> str:
    """Read the access token from a file, or from the environment; empty if there is none.

    Raises:
        OperatorError: the file cannot be read, or does not hold one token. The text does not
            contain what it holds.
    """
    if file is None:
        source, text = TOKEN_KEY, os.environ.get(TOKEN_KEY, "")
    else:
        source = f"--token-file {file}"
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError as exc:
            raise OperatorError(f"{source} cannot be read: {exc.strerror}") from exc
    if not _is_sendable(text.strip()) or (file and not text.strip()):
        raise OperatorError(
            f"{source}: expected one access token, as classifyd token add prints it"
        )
    return text.strip()


def _is_sendable(text: str) -> bool:
    return re.fullmatch(r"[!-~]*", text) is not None


def find_server(settings: Settings) -> tuple[Settings, set[str]]:
    """Find the running server of a state folder.

    Returns:
        The settings changed to its location, and the deploy names that it serves.

    Raises:
        OperatorError: several servers use the folder, none of them on the port of the settings.
        UnreachableError: none does.
    """
    servers = running_servers(settings)
    found = [server for server in servers if server.port == settings.port] or list(servers)
    if not found:
        raise UnreachableError(
            f"no running server is recorded in {settings.state_dir}; start it with classifyd "
            "serve, or name its URL, or its --state-dir"
        )
    if len(found) > 1:
        ports = ", ".join(str(server.port) for server in found)
        raise OperatorError(f"several servers run here, on the ports {ports}: name a URL")
    return found[0], servers[found[0]]


def locate(settings: Settings) -> Settings:
    """The settings, changed to the location of the running server, if one is found."""
    try:
        return find_server(settings)[0]
    except OperatorError:
        return settings


def _only(names: set[str]) -> str:
    if len(names) == 1:
        return next(iter(names))
    if names:
        raise OperatorError(f"the server serves {', '.join(sorted(names))}: choose with --name")
    raise UnreachableError(
        "the server that runs here serves no model yet; try again, or see its log"
    )
