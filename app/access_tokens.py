"""Access tokens: named credentials of callers.

A token is 256 random bits, and the file holds its SHA-256. Passwords need a slow, salted
hash; random bits cannot be guessed from a fast one, which every request can afford.
"""

import datetime
import hashlib
import hmac
import json
import logging
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.errors import AuthFailed, OperatorError
from app.system.files import atomic_write, file_lock, file_stamp, read_regular

TOKEN_BYTES = 32
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Token:
    """One entry of the tokens file.

    Attributes:
        name: of the caller; appears in the log and in the metrics.
        sha256: of the token's text, in hexadecimal.
        created: the day, as YYYY-MM-DD.
        expires: the last valid day (UTC), as YYYY-MM-DD; empty for never.
    """

    name: str
    sha256: str
    created: str
    expires: str = ""

    def has_expired(self, today: datetime.date) -> bool:
        """Whether its last valid day has passed."""
        return bool(self.expires) and today > datetime.date.fromisoformat(self.expires)


class AccessTokens:
    """The tokens of a file, which is reloaded when it changes.

    Args:
        path: the file; while it does not exist, no token is valid.

    Raises:
        OperatorError: the file exists but is not a tokens file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = file_stamp(path)
        self._tokens = read_tokens(path)

    def check(self, presented: str) -> str:
        """Return the name of a valid token.

        Args:
            presented: the token that the caller sent, empty if none.

        Raises:
            AuthFailed: it is absent, unknown or expired.
        """
        self._refresh()
        if not presented:
            raise AuthFailed("no access token; this server requires one")
        digest = _digest(presented)
        # All are compared, each in constant time, so that timing reveals nothing.
        matches = [t for t in self._tokens if hmac.compare_digest(t.sha256, digest)]
        if not matches:
            raise AuthFailed("unknown access token")
        if matches[0].has_expired(_today()):
            raise AuthFailed(f"the access token {matches[0].name} expired on {matches[0].expires}")
        return matches[0].name

    def _refresh(self) -> None:
        stamp = file_stamp(self._path)
        if stamp == self._stamp:
            return
        with self._lock:
            self._stamp = stamp
            try:
                self._tokens = read_tokens(self._path)
            except OperatorError as exc:
                # A typing error in the file must not lock every caller out.
                _log.error("the access tokens stay as they were: %s", exc)


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read a tokens file; a missing file holds no tokens.

    Raises:
        OperatorError: it cannot be read or is not a file of ``classifyd token``.
    """
    try:
        entries = json.loads(read_regular(path))["tokens"]
        return tuple(_to_token(entry) for entry in entries)
    except FileNotFoundError:
        return ()
    except OSError as exc:
        raise OperatorError(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, TypeError, KeyError) as exc:
        raise OperatorError(
            f"{path} is not a tokens file; move it away and make tokens with classifyd token add"
        ) from exc


def _to_token(entry: dict[str, Any]) -> Token:
    token = Token(**entry)
    if not re.fullmatch(NAME_PATTERN, token.name) or not re.fullmatch("[0-9a-f]{64}", token.sha256):
        raise ValueError
    token.has_expired(_today())  # raises ValueError for an invalid date
    return token


def add_token(path: Path, name: str, expires: datetime.date | None = None) -> str:
    """Create a token, store its hash and return it; it cannot be shown again.

    Args:
        path: the tokens file, created if it does not exist.
        name: of the caller.
        expires: the last valid day (UTC), None for no end.

    Raises:
        OperatorError: the name is taken or wrong, or the file cannot be read or written.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise OperatorError(
            f"token name {name!r} is wrong: expected 1 to 64 of A-Z a-z 0-9 _ . -, "
            "a letter or digit first"
        )
    text = secrets.token_urlsafe(TOKEN_BYTES)
    end = expires.isoformat() if expires else ""
    with _editing(path) as tokens:
        if any(token.name == name for token in tokens):
            raise OperatorError(
                f"a token named {name} exists; revoke it first or take another name"
            )
        tokens.append(Token(name, _digest(text), _today().isoformat(), end))
    return text


def revoke_token(path: Path, name: str) -> None:
    """Remove a token by its name.

    Raises:
        OperatorError: no token has this name, or the file cannot be read or written.
    """
    with _editing(path) as tokens:
        if all(token.name != name for token in tokens):
            known = ", ".join(token.name for token in tokens) or "none"
            raise OperatorError(f"no token is named {name}; there are: {known}")
        tokens[:] = [token for token in tokens if token.name != name]


@contextmanager
def _editing(path: Path) -> Iterator[list[Token]]:
    """Give the tokens as a list to change; concurrent commands take turns."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readable for all: root and the service's account both change tokens.
        with file_lock(path.with_name(f"{path.name}.lock"), 0o644):
            tokens = list(read_tokens(path))
            yield tokens
            document = {"tokens": [asdict(token) for token in tokens]}
            owner_of = path if path.exists() else path.parent
            with atomic_write(path, 0o600, owner_of=owner_of) as stream:
                stream.write(f"{json.dumps(document, indent=2)}\n".encode())
    except OSError as exc:
        raise OperatorError(f"{path} cannot be written: {exc.strerror}") from exc


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
