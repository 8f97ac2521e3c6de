"""Access tokens: who may call, by name.

A token is 256 random bits, and the file holds its SHA-256. A slow, salted hash is for what
people make up; of random bits nothing can be guessed from a fast one, which every request
can afford.
"""

import datetime
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.errors import AuthFailed, OperatorError

TOKEN_BYTES = 32
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Token:
    """One entry of the tokens file.

    Attributes:
        name: who it was given to; appears in the log and in the metrics.
        sha256: of the token's text, in hexadecimal.
        created: the day, as YYYY-MM-DD.
        expires: the last day (UTC) on which it is valid; empty for no end.
    """

    name: str
    sha256: str
    created: str
    expires: str = ""

    def has_expired(self, today: datetime.date) -> bool:
        """Whether its last day is over."""
        return bool(self.expires) and today > datetime.date.fromisoformat(self.expires)


class AccessTokens:
    """The tokens of a file, read again whenever it has changed.

    Args:
        path: the file; as long as there is none, no token is valid.

    Raises:
        OperatorError: the file is there and wrong.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = _stamp(path)
        self._tokens = read_tokens(path)

    def check(self, presented: str) -> str:
        """Return the name of a valid token.

        Args:
            presented: what the caller sent; empty for nothing.

        Raises:
            AuthFailed: it is absent, unknown or expired.
        """
        self._refresh()
        if not presented:
            raise AuthFailed("no access token, one is needed here")
        digest = _digest(presented)
        # All are compared, and each in constant time, so that the time tells nothing.
        matches = [t for t in self._tokens if hmac.compare_digest(t.sha256, digest)]
        if not matches:
            raise AuthFailed("the access token is not known")
        if matches[0].has_expired(_today()):
            raise AuthFailed(f"the access token {matches[0].name} expired on {matches[0].expires}")
        return matches[0].name

    def _refresh(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        with self._lock:
            self._stamp = stamp
            try:
                self._tokens = read_tokens(self._path)
            except OperatorError as exc:
                # Those that were valid stay so: a slip of an editor must not stop everybody.
                _log.error("the access tokens stay as they were: %s", exc)


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read a tokens file; no file is an empty one.

    Raises:
        OperatorError: it cannot be read or is not as ``classifyd token`` writes it.
    """
    try:
        entries = json.loads(path.read_bytes())["tokens"]
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
    token.has_expired(_today())  # a date that is none raises
    return token


def add_token(path: Path, name: str, expires: datetime.date | None = None) -> str:
    """Make a token, write its hash and return it; it can not be shown again.

    Args:
        path: the tokens file, which is made when there is none.
        name: for whom.
        expires: the last day (UTC) on which it is valid.

    Raises:
        OperatorError: the name is taken or wrong, or the file cannot be read or written.
    """
    tokens = read_tokens(path)
    if not re.fullmatch(NAME_PATTERN, name):
        raise OperatorError(
            f"token name {name!r} is wrong: expected 1 to 64 of A-Z a-z 0-9 _ . -, "
            "a letter or digit first"
        )
    if any(token.name == name for token in tokens):
        raise OperatorError(f"a token named {name} exists; revoke it first or take another name")
    text = secrets.token_urlsafe(TOKEN_BYTES)
    end = expires.isoformat() if expires else ""
    _write(path, [*tokens, Token(name, _digest(text), _today().isoformat(), end)])
    return text


def revoke_token(path: Path, name: str) -> None:
    """Remove a token by its name.

    Raises:
        OperatorError: no token has this name, or the file cannot be read or written.
    """
    tokens = read_tokens(path)
    left = [token for token in tokens if token.name != name]
    if len(left) == len(tokens):
        known = ", ".join(token.name for token in tokens) or "none"
        raise OperatorError(f"no token is named {name}; there are: {known}")
    _write(path, left)


def _write(path: Path, tokens: Sequence[Token]) -> None:
    """Replace the file at once: a worker reads the old list or the new one."""
    text = json.dumps({"tokens": [asdict(token) for token in tokens]}, indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".tokens-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            _keep_owner(path, descriptor)
            os.fsync(descriptor)
        Path(draft).replace(path)
    except OSError as exc:
        raise OperatorError(f"{path} cannot be written: {exc.strerror}") from exc


def _keep_owner(path: Path, descriptor: int) -> None:
    """Root adds tokens, the service's own user reads them: keep the file's, or the folder's."""
    like = (path if path.exists() else path.parent).stat()
    if os.geteuid() == 0:
        os.fchown(descriptor, like.st_uid, like.st_gid)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
