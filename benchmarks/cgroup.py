"""A memory cgroup for the length of a block, in version 2 or 1 of the kernel's interface."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
REMOVE_TRIES = 50
"""A group can be removed when its last process is gone."""


@dataclass(frozen=True)
class Group:
    """A memory cgroup, and its files that are named differently in the two versions."""

    folder: Path
    peak_file: str
    events_file: str

    def enter(self) -> Sequence[str]:
        """A command that runs the command after it inside the group."""
        return ("sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh")

    def oom_kills(self) -> int:
        """How many processes of the group the kernel has killed."""
        found = re.search(r"oom_kill (\d+)", (self.folder / self.events_file).read_text())
        return int(found[1]) if found else 0

    def peak_mb(self) -> float | None:
        """The most memory that the group has had; None where the kernel does not say."""
        with suppress(OSError):
            return int((self.folder / self.peak_file).read_text()) / 1e6
        return None


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Group | None]:
    """Make a memory cgroup below that of this process, else at the top; None if neither works."""
    group = next(filter(None, (_make(*place, limit_bytes) for place in _places())), None)
    try:
        yield group
    finally:
        if group:
            _remove(group.folder)


def _places() -> list[tuple[Path, bool]]:
    """Folders in which a group may be made, and whether each is of version 2."""
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    places = []
    for _, controllers, path in own:
        if "memory" in controllers.split(","):
            places += [(ROOT / "memory" / path.lstrip("/"), False), (ROOT / "memory", False)]
        elif not controllers and (ROOT / "cgroup.controllers").exists():
            places += [(ROOT / path.lstrip("/"), True), (ROOT, True)]
    return places


def _make(parent: Path, is_v2: bool, limit_bytes: int) -> Group | None:
    folder = parent / f"classifyd-benchmark-{time.time_ns()}"
    limit, swap, peak, events = (
        ("memory.max", "memory.swap.max", "memory.peak", "memory.events")
        if is_v2
        else (
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.max_usage_in_bytes",
            "memory.oom_control",
        )
    )
    try:
        folder.mkdir()
    except OSError:
        return None
    try:
        (folder / limit).write_text(str(limit_bytes))
    except OSError:
        _remove(folder)
        return None
    with suppress(OSError):  # the kernel may not account swap
        (folder / swap).write_text("0" if is_v2 else str(limit_bytes))
    return Group(folder, peak, events)


def _remove(folder: Path) -> None:
    for _ in range(REMOVE_TRIES):
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return
