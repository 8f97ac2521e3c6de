"""What each worker serves, in a file of its own under the state folder.

``classifyd package activate --wait`` reads these files: workers share no memory, and a
request over HTTP reaches one of them by chance.
"""

import json
import logging
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

WORKERS_FOLDER = "workers"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NameStatus:
    """What one worker does under one deploy name.

    Attributes:
        generation: the state of the store that it has seen, see app.packages.store.DesiredVersion.
        version: what it serves, empty for nothing.
        problem: why it does not serve what the store wants, empty when it does.
    """

    generation: str
    version: str
    problem: str


@dataclass(frozen=True)
class WorkerStatus:
    """One worker's file.

    Attributes:
        pid: its process.
        started: when the process began, in clock ticks since the machine's start: a process
            id alone may have passed to another process.
        weights_dir: the weights folder that it serves.
        names: by deploy name; empty as long as the worker starts.
    """

    pid: int
    started: str
    weights_dir: str
    names: dict[str, NameStatus] = field(default_factory=dict)


class StatusFile:
    """Writes the file of this process.

    Args:
        state_dir: the state folder.
        weights_dir: the weights folder that the worker serves.
        slot: the worker's place.
    """

    def __init__(self, state_dir: Path, weights_dir: Path, slot: int) -> None:
        self._path = state_dir / WORKERS_FOLDER / f"{slot}-{os.getpid()}.json"
        self._weights_dir = str(weights_dir)
        _delete_dead(state_dir)
        self.write({})

    def write(self, names: dict[str, NameStatus]) -> None:
        """Replace the file; a disk that is full or lost is logged and stops nothing."""
        pid = os.getpid()
        status = WorkerStatus(pid, _started(pid), self._weights_dir, names)
        temporary = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(exist_ok=True)
            temporary.write_text(json.dumps(asdict(status)), encoding="utf-8")
            temporary.rename(self._path)
        except OSError as exc:
            _log.error("worker status %s cannot be written: %s", self._path, exc)


def live_workers(state_dir: Path, weights_dir: Path) -> list[WorkerStatus]:
    """List the workers that run now and serve a weights folder."""
    found = map(_read, (state_dir / WORKERS_FOLDER).glob("*.json"))
    return [
        status
        for status in found
        if status and status.weights_dir == str(weights_dir) and _is_alive(status)
    ]


def _delete_dead(state_dir: Path) -> None:
    for path in (state_dir / WORKERS_FOLDER).glob("*.json"):
        status = _read(path)
        if status is None or not _is_alive(status):
            path.unlink(missing_ok=True)


def _read(path: Path) -> WorkerStatus | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        names = {name: NameStatus(**status) for name, status in document.pop("names").items()}
        return WorkerStatus(**document, names=names)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # gone in the meantime, or of another release


def _is_alive(status: WorkerStatus) -> bool:
    return _started(status.pid) == status.started != ""


def _started(pid: int) -> str:
    """Field 22 of proc_pid_stat(5), empty when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The second field is the command's name, which may hold anything, brackets included.
    return text.rpartition(")")[2].split()[19]
