"""How every command ends: the exit statuses, and the one form of an error in JSON."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from app.errors import FailedError, OperatorError, SettingsError, UnreachableError

STATUSES = {"failed": 1, "usage": 2, "refused": 3, "unreachable": 4, "interrupted": 130}
"""Exit status by kind of error; docs/commands.md explains each."""

USE_SUDO = "; use sudo or the service's account"


def kind_of(exc: BaseException) -> str:
    """The kind of an error, a key of STATUSES."""
    if isinstance(exc, SettingsError | click.UsageError):
        return "usage"
    if isinstance(exc, UnreachableError):
        return "unreachable"
    return "failed" if isinstance(exc, FailedError | OSError) else "refused"


def describe_os_error(exc: OSError) -> str:
    """Describe what no command handled: usually a folder that this account cannot enter."""
    hint = USE_SUDO if isinstance(exc, PermissionError) else ""
    return f"{exc.filename or 'input/output'}: {exc.strerror}{hint}"


def describe_operator_error(exc: OperatorError) -> str:
    """The text of an error, with a hint where the account is at fault."""
    return f"{exc}{USE_SUDO if isinstance(exc.__cause__, PermissionError) else ''}"


def error_json(kind: str, message: str, **more: Any) -> dict[str, Any]:
    """An error as commands with ``--json`` write it."""
    return {"error": {"kind": kind, "message": message, **more}}


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON; it may be wrong, so it is not parsed."""
    return "--json" in arguments


def end(kind: str, message: str, *, show: bool = True) -> NoReturn:
    """End the command: a line on standard error, and with ``--json`` the error on standard output.

    Args:
        kind: a key of STATUSES.
        message: what was wrong, where, and what to do next.
        show: whether the line must still be written.
    """
    if show:
        print(f"classifyd: {message}", file=sys.stderr)
    if wants_json(sys.argv[1:]):
        print(json.dumps(error_json(kind, message), ensure_ascii=False))
    sys.exit(STATUSES[kind])


def color_choice() -> bool | None:
    """Whether to write colours: click decides, unless NO_COLOR is set (https://no-color.org)."""
    return False if os.environ.get("NO_COLOR") else None
