"""What surrounds the server, for ``classifyd doctor``: disk, clock, cards, log, proxy."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from app.licence.facts import gpu_models
from app.licence.verdict import CLOCK_TOLERANCE_S
from app.observability.log_ids import COUNTER_FILE
from app.settings import PROJECT_ROOT, Settings

LOG_TIMEOUT_S = 20
LOG_LINES = 2000
LOG_TAIL_BYTES = 2**20
SHOWN_ERRORS = 5
LOW_DISK_MB, EMPTY_DISK_MB = 1000, 100
PROXY_BODY_MB = 33
"""Bodies up to 32 MiB are read to their end, so that the client can read the refusal."""

NGINX_FOLDER = Path("/etc/nginx")
SITES_THAT_MAY_BE_OFF = "sites-available"
"""Debian links from sites-enabled to those that are on."""

JOURNAL = Path("/var/log/journal")


@dataclass(frozen=True)
class Finding:
    """One line of the report: how it stands, what was looked at, and what to do."""

    level: Literal["ok", "warning", "failure"]
    subject: str
    text: str
    to_do: str = ""


Findings = Iterator[Finding]


def check_disk(settings: Settings) -> Findings:
    """See how much room there is for the state, the packages and the log."""
    log = settings.log_file.parent if settings.log_file else JOURNAL
    seen: set[int] = set()
    for folder in map(_existing, (settings.state_dir, settings.weights_dir, log)):
        device = folder.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield _disk_of(folder)


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _disk_of(folder: Path) -> Finding:
    usage = os.statvfs(folder)
    free_mb = usage.f_bavail * usage.f_frsize // 2**20
    text = f"{free_mb} MB free for {folder}"
    to_do = "make room: journalctl --vacuum-size=200M, packages that are not used"
    if usage.f_files and not usage.f_favail:
        return Finding("failure", "disk", f"no file can be made in {folder}: no inodes", to_do)
    if free_mb >= LOW_DISK_MB:
        return Finding("ok", "disk", text)
    return Finding("warning" if free_mb >= EMPTY_DISK_MB else "failure", "disk", text, to_do)


def check_clock(settings: Settings) -> Findings:
    """See whether the clock is before the program's own files, or before the last start."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    to_do = "set the clock (timedatectl set-time); licences depend on it"
    if time.time() < (PROJECT_ROOT / "setup.cfg").stat().st_mtime:
        yield Finding("failure", "clock", f"{now} is before this release was made", to_do)
    elif time.time() + CLOCK_TOLERANCE_S < _last_start(settings):
        yield Finding("failure", "clock", f"{now} is before the server's last start", to_do)
    else:
        yield Finding("ok", "clock", now)


def _last_start(settings: Settings) -> float:
    try:
        return (settings.state_dir / COUNTER_FILE).stat().st_mtime
    except OSError:
        return 0.0


def check_gpu(settings: Settings) -> Findings:
    """See whether the cards that the settings ask for are there."""
    cards = gpu_models()
    for model in cards.values():
        yield Finding("ok", "gpu", model)
    if settings.device.startswith("cuda") and not cards:
        to_do = "install the NVIDIA driver (nvidia-smi must answer), or set device = cpu"
        yield Finding("failure", "gpu", f"device = {settings.device}, no card found", to_do)
    elif not cards:
        yield Finding("ok", "gpu", "none, and none is asked for")


def check_log(settings: Settings) -> Findings:
    """Repeat the last errors of the service's log."""
    lines = log_lines(settings)
    if lines is None:
        yield Finding("ok", "log", "not kept by systemd here; see where the server's output goes")
        return
    errors = [entry for entry in map(_parse_line, lines) if entry.get("level") == "error"]
    for entry in errors[-SHOWN_ERRORS:]:
        detail = entry.get("detail", "")
        text = f"{entry.get('time', '')} {entry.get('message', '')} {detail}".rstrip()
        yield Finding("warning", "log", text, str(entry.get("advice", "")))
    if not errors:
        yield Finding("ok", "log", f"no error in the last {len(lines)} lines")


def log_lines(settings: Settings) -> list[str] | None:
    """The last lines of the log file or of the journal; None where there is neither."""
    if settings.log_file is None:
        return _journal_lines()
    try:
        with settings.log_file.open("rb") as stream:
            stream.seek(max(0, settings.log_file.stat().st_size - LOG_TAIL_BYTES))
            return stream.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    except OSError:
        return None


def _journal_lines() -> list[str] | None:
    tool = shutil.which("journalctl")
    if tool is None:
        return None
    command = [tool, "--unit=classifyd", "--output=cat", "--no-pager", f"--lines={LOG_LINES}"]
    try:
        answer = subprocess.run(  # noqa: S603 - systemd's own tool, no foreign arguments
            command, capture_output=True, timeout=LOG_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode("utf-8", "replace").splitlines()


def _parse_line(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def check_proxy(settings: Settings, folder: Path = NGINX_FOLDER) -> Findings:
    """See whether an nginx in front lets whole images through."""
    pattern = re.compile(rf"^\s*(proxy_pass|server)\s+[^#;]*:{settings.port}\b", re.MULTILINE)
    for path in sorted(folder.rglob("*")):
        if path.parent.name == SITES_THAT_MAY_BE_OFF:
            continue
        text = _text_of(path)
        if not pattern.search(text):
            continue
        # What the site does not set comes from the main file.
        limits = _limits_in(text) or _limits_in(_text_of(folder / "nginx.conf"))
        limit = min(limits, default=None, key=lambda found: _to_mb(*found))
        if limit and _to_mb(*limit) >= PROXY_BODY_MB:
            yield Finding("ok", "proxy", f"{path}: client_max_body_size {limit[0]}{limit[1]}")
        else:
            found = f"{limit[0]}{limit[1]}" if limit else "not set, nginx then takes 1m"
            yield Finding(
                "warning",
                "proxy",
                f"{path}: client_max_body_size is {found}",
                f"set client_max_body_size {PROXY_BODY_MB}m; see deploy/nginx.conf",
            )


def _limits_in(text: str) -> list[tuple[int, str]]:
    found = re.findall(r"^\s*client_max_body_size\s+(\d+)([kmg]?)\s*;", text, re.M | re.I)
    return [(int(number), unit) for number, unit in found]


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        return ""


def _to_mb(number: int, unit: str) -> float:
    if number == 0:
        return float("inf")  # nginx: 0 is no limit
    return number * {"": 2**-20, "k": 2**-10, "m": 1, "g": 2**10}[unit.lower()]
