"""What each worker serves, in one file per worker under the state folder.

``classifyd package activate --wait`` reads these files: workers share no memory, and an HTTP
request reaches an arbitrary one of them. Commands that call a server find it here, because its
address may come from an environment that they do not have.
"""

import json
import logging
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from app.settings import Settings
from app.system.files import atomic_write, read_regular

WORKERS_FOLDER = "workers"

LOCATION = ("bind", "port", "access_tokens", "tls_certificate", "tls_key", "log_file")
"""The settings by which a command on this machine finds a running server and its log."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NameStatus:
    """What one worker serves under one deploy name.

    Attributes:
        generation: of the app.packages.store.DesiredVersion that the worker last acted on.
        version: the version it serves, empty for none.
        problem: why it does not serve the desired version, empty if it does.
    """

    generation: str
    version: str
    problem: str


@dataclass(frozen=True)
class WorkerStatus:
    """One worker's file.

    Attributes:
        started: start time of the process in clock ticks since boot, as process ids are
            reused.
        weights_dir: the weights folder that it serves.
        location: the settings of LOCATION, by name.
        names: by deploy name; empty while the worker starts.
    """

    pid: int
    started: str
    weights_dir: str
    location: dict[str, str | int | None]
    names: dict[str, NameStatus] = field(default_factory=dict)


class StatusFile:
    """Writes the file of this process, named by the worker's slot."""

    def __init__(self, settings: Settings, slot: int) -> None:
        self._path = settings.state_dir / WORKERS_FOLDER / f"{slot}-{os.getpid()}.json"
        self._weights_dir = str(settings.weights_dir)
        values = {name: getattr(settings, name) for name in LOCATION}
        self._location = {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}
        _delete_dead(settings.state_dir)
        self.write({})

    def write(self, names: dict[str, NameStatus]) -> None:
        """Replace the file; if the disk is full or lost, that is logged."""
        pid = os.getpid()
        status = WorkerStatus(pid, _started(pid), self._weights_dir, self._location, names)
        try:
            self._path.parent.mkdir(exist_ok=True)
            # After a reboot the process is gone, and with it the meaning of the file.
            with atomic_write(self._path, durable=False) as stream:
                stream.write(json.dumps(asdict(status)).encode())
        except OSError as exc:
            _log.error("worker status %s cannot be written: %s", self._path, exc)


def live_workers(state_dir: Path, weights_dir: Path, pid: object = "*") -> list[WorkerStatus]:
    """List the running workers that serve a weights folder, or the one with a process id."""
    found = map(_read, (state_dir / WORKERS_FOLDER).glob(f"*-{pid}.json"))
    return [
        status
        for status in found
        if status and status.weights_dir == str(weights_dir) and _is_alive(status)
    ]


def running_servers(settings: Settings) -> dict[Settings, set[str]]:
    """Find the running servers that use a state folder.

    Args:
        settings: name the state folder.

    Returns:
        The deploy names that each serves, by the settings changed to its location.
    """
    servers: dict[Settings, set[str]] = {}
    for path in sorted((settings.state_dir / WORKERS_FOLDER).glob("*.json")):
        status = _read(path)
        if status and _is_alive(status):
            values = {name: _setting(name, status.location.get(name)) for name in LOCATION}
            located = replace(settings, **values)
            served = {name for name, model in status.names.items() if model.version}
            servers.setdefault(located, set()).update(served)
    return servers


def _setting(name: str, value: str | int | None) -> Any:
    return (
        Path(str(value)) if value and name in {"tls_certificate", "tls_key", "log_file"} else value
    )


def _delete_dead(state_dir: Path) -> None:
    for path in (state_dir / WORKERS_FOLDER).glob("*.json"):
        status = _read(path)
        if status is None or not _is_alive(status):
            path.unlink(missing_ok=True)


def _read(path: Path) -> WorkerStatus | None:
    try:
        document = json.loads(read_regular(path))
        names = {name: NameStatus(**status) for name, status in document.pop("names").items()}
        return WorkerStatus(**document, names=names)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # deleted meanwhile, or written by another release


def _is_alive(status: WorkerStatus) -> bool:
    return _started(status.pid) == status.started != ""


def _started(pid: int) -> str:
    """Read field 22 of proc_pid_stat(5), empty if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The second field is the command's name, which may contain anything, even parentheses.
    return text.rpartition(")")[2].split()[19]
