"""What surrounds the server, for ``classifyd doctor``: disk, clock, cards, log, proxy."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from app.licence.facts import gpu_models
from app.settings import PROJECT_ROOT, Settings

LOG_TIMEOUT_S = 20
LOG_LINES = 2000
SHOWN_ERRORS = 5
LOW_DISK_MB, EMPTY_DISK_MB = 1000, 100
PROXY_BODY_MB = 33
"""Bodies up to 32 MiB are read to their end, so that the client can read the refusal."""

NGINX_FOLDER = Path("/etc/nginx")


@dataclass(frozen=True)
class Finding:
    """One line of the report: how it stands, what was looked at, and what to do."""

    level: Literal["ok", "warning", "failure"]
    subject: str
    text: str
    to_do: str = ""


Findings = Iterator[Finding]


def check_disk(settings: Settings) -> Findings:
    """See how much room the state folder's disk has."""
    folder = settings.state_dir if settings.state_dir.exists() else PROJECT_ROOT
    free_mb = shutil.disk_usage(folder).free // 2**20
    text = f"{free_mb} MB free for {folder}"
    if free_mb >= LOW_DISK_MB:
        yield Finding("ok", "disk", text)
        return
    to_do = "make room: journalctl --vacuum-size=200M, old releases in /opt/classifyd"
    yield Finding("warning" if free_mb >= EMPTY_DISK_MB else "failure", "disk", text, to_do)


def check_clock(settings: Settings) -> Findings:
    """See whether the clock is before the program's own files."""
    built = (PROJECT_ROOT / "setup.cfg").stat().st_mtime
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.time() >= built:
        yield Finding("ok", "clock", now)
    else:
        to_do = "set the clock (timedatectl set-time); licences depend on it"
        yield Finding("failure", "clock", f"{now} is before this release was made", to_do)


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
    lines = journal_lines()
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


def journal_lines() -> list[str] | None:
    """The service's last log lines; None where systemd's journal cannot be asked."""
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
        text = _text_of(path)
        if not pattern.search(text):
            continue
        limit = re.search(r"^\s*client_max_body_size\s+(\d+)([kmg]?)\s*;", text, re.M | re.I)
        if limit and _to_mb(int(limit[1]), limit[2]) >= PROXY_BODY_MB:
            yield Finding("ok", "proxy", f"{path}: client_max_body_size {limit[1]}{limit[2]}")
        else:
            found = f"{limit[1]}{limit[2]}" if limit else "not set, nginx then takes 1m"
            yield Finding(
                "warning",
                "proxy",
                f"{path}: client_max_body_size is {found}",
                f"set client_max_body_size {PROXY_BODY_MB}m; see deploy/nginx.conf",
            )


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        return ""


def _to_mb(number: int, unit: str) -> float:
    if number == 0:
        return float("inf")  # nginx: 0 is no limit
    return number * {"": 2**-20, "k": 2**-10, "m": 1, "g": 2**10}[unit.lower()]
