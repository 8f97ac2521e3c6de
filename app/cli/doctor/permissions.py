"""What the account of the service may not read or write, for ``classifyd doctor``.

The command runs as root, who may do everything. So ``python -m app.cli.doctor.permissions``
does the check in a process of the service's account.
"""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.cli.doctor.finding import Finding, Findings
from app.folders import PROJECT_ROOT
from app.settings import Settings

TIMEOUT_S = 30
UNIT = "classifyd"


@dataclass(frozen=True)
class Need:
    """The path of a setting that the server reads, with everything in a folder, or also writes.

    A missing path that need not be written is no fault.
    """

    setting: str
    path: Path
    writes: bool = False


def check_permissions(settings: Settings) -> Findings:
    """Check that the service's account, or without root this one, can use the paths in settings."""
    account = service_account()
    who, owner = (f"the account {account}", account) if account else ("this account", "the service")
    needs = list(_needs(settings))
    for need, fault in zip(needs, find_faults(needs, account), strict=True):
        verb = "write" if need.writes else "read"
        if fault is None:
            yield Finding("ok", "permissions", f"{who} can {verb} {need.setting} {need.path}")
            continue
        to_do = (
            f"chown -R {owner}: {need.path}"
            if need.writes
            else f"let {owner} read it and its parent folders: chmod a+rX, or chgrp and chmod g+rX"
        )
        text = f"{who} cannot {verb} {fault} ({need.setting})"
        yield Finding("failure", "permissions", text, to_do)


def _needs(settings: Settings) -> Iterator[Need]:
    yield Need("weights_dir", settings.weights_dir)
    yield Need("state_dir", settings.state_dir, writes=True)
    yield Need("licence_dir", settings.licence_dir)
    if settings.access_tokens == "on":
        yield Need("tokens_file", settings.tokens_path())
    if settings.tls_certificate and settings.tls_key:
        yield Need("tls_certificate", settings.tls_certificate)
        yield Need("tls_key", settings.tls_key)
    if settings.log_file:
        yield Need("log_file", settings.log_file.parent, writes=True)


def service_account() -> str | None:
    """The account of the systemd service; None if there is none or this process is not root."""
    if os.geteuid() != 0:
        return None
    try:
        shown = subprocess.run(  # noqa: S603 - no foreign arguments
            ["systemctl", "show", "--property=User", "--value", UNIT],  # noqa: S607 - found on PATH
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        return pwd.getpwnam(shown.stdout.strip()).pw_name
    except (OSError, subprocess.SubprocessError, KeyError):
        return None


def find_faults(needs: list[Need], account: str | None) -> list[Path | None]:
    """For each need, the first path that the account cannot use; None if all are usable.

    Without an account, the permissions of this process are checked.
    """
    if account is None:
        return [_first_fault(need.path, need.writes) for need in needs]
    arguments = json.dumps([[str(need.path), need.writes] for need in needs])
    group_id = pwd.getpwnam(account).pw_gid
    ended = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "app.cli.doctor.permissions", arguments],
        cwd=PROJECT_ROOT,
        user=account,
        group=group_id,
        extra_groups=os.getgrouplist(account, group_id),
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return [Path(path) if path else None for path in json.loads(ended.stdout)]


def _first_fault(path: Path, writes: bool) -> Path | None:
    return next(_faults(path, writes), None)


def _faults(path: Path, writes: bool) -> Iterator[Path]:
    if not os.access(path, os.F_OK):
        # The server creates it if it must be writable. An inaccessible parent hides its content.
        parent = next(folder for folder in path.parents if os.access(folder, os.F_OK))
        if not os.access(parent, os.X_OK | (os.W_OK if writes else 0)):
            yield parent
        return
    mode = os.R_OK | (os.X_OK if path.is_dir() else 0)
    if not os.access(path, mode) or (writes and not _is_writable(path)):
        yield path
    elif path.is_dir():
        for entry in sorted(path.iterdir()):
            if not entry.is_symlink():
                yield from _faults(entry, writes)


def _is_writable(path: Path) -> bool:
    # OpenVINO makes its files read-only, but replaces them.
    is_own_file = path.is_file() and path.stat().st_uid == os.getuid()
    return is_own_file or os.access(path, os.W_OK)


if __name__ == "__main__":
    found = [_first_fault(Path(path), writes) for path, writes in json.loads(sys.argv[1])]
    sys.stdout.write(json.dumps([fault and str(fault) for fault in found]))
