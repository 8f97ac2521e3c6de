"""What an account may not read or write, asked in a process of that account.

``classifyd doctor`` is run as root, who may do anything; what counts is the service's account.
"""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.settings import PROJECT_ROOT

TIMEOUT_S = 30
UNIT = "classifyd"


@dataclass(frozen=True)
class Need:
    """A file or a folder with all that is in it, and what must be possible there.

    Attributes:
        setting: the setting that names it.
        path: where it is; what is not there is no fault.
        writes: whether it must be possible to write, too.
    """

    setting: str
    path: Path
    writes: bool = False


def service_account() -> str | None:
    """The account that systemd runs the service with, when this process may become it."""
    if os.geteuid() != 0:
        return None
    try:
        shown = subprocess.run(  # noqa: S603 - no foreign arguments
            ["systemctl", "show", "--property=User", "--value", UNIT],  # noqa: S607 - as the system has it
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        return pwd.getpwnam(shown.stdout.strip()).pw_name
    except (OSError, subprocess.SubprocessError, KeyError):
        return None


def out_of_reach(needs: list[Need], account: str | None) -> list[Path | None]:
    """For each need the first path that the account cannot use, None when all is well.

    Args:
        needs: what is needed.
        account: whose rights count; None for those of this process.
    """
    if account is None:
        return [_first_fault(need.path, need.writes) for need in needs]
    asked = json.dumps([[str(need.path), need.writes] for need in needs])
    ended = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "app.cli.doctor.permissions", asked],
        cwd=PROJECT_ROOT,
        user=account,
        group=pwd.getpwnam(account).pw_gid,
        extra_groups=os.getgrouplist(account, pwd.getpwnam(account).pw_gid),
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return [Path(path) if path else None for path in json.loads(ended.stdout)]


def _first_fault(path: Path, writes: bool) -> Path | None:
    return next(_faults(path, writes), None)


def _faults(path: Path, writes: bool) -> Iterator[Path]:
    if not os.access(path, os.F_OK):
        # It will be made where it must be written; and a closed folder hides what is in it.
        above = next(folder for folder in path.parents if os.access(folder, os.F_OK))
        if not os.access(above, os.X_OK | (os.W_OK if writes else 0)):
            yield above
        return
    mode = os.R_OK | (os.X_OK if path.is_dir() else 0)
    if not os.access(path, mode) or (writes and not _is_writable(path)):
        yield path
    elif path.is_dir():
        for entry in sorted(path.iterdir()):
            if not entry.is_symlink():
                yield from _faults(entry, writes)


def _is_writable(path: Path) -> bool:
    # OpenVINO takes the right to write from its own files, and replaces them all the same.
    is_own_file = path.is_file() and path.stat().st_uid == os.getuid()
    return is_own_file or os.access(path, os.W_OK)


if __name__ == "__main__":
    found = [_first_fault(Path(path), writes) for path, writes in json.loads(sys.argv[1])]
    sys.stdout.write(json.dumps([fault and str(fault) for fault in found]))
