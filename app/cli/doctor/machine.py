"""The disk, the clock and the GPUs, for ``classifyd doctor``."""

import os
import time
from pathlib import Path

from app.cli.doctor.finding import Finding, Findings
from app.licence.facts import gpu_models
from app.licence.verdict import CLOCK_TOLERANCE_S
from app.observability.log_ids import COUNTER_FILE
from app.settings import Settings
from app.system.fips import fips_source

LOW_DISK_MB, FULL_DISK_MB = 1000, 100
JOURNAL = Path("/var/log/journal")


def check_disk(settings: Settings) -> Findings:
    """Check the free space for the state, the packages and the log."""
    log = settings.log_file.parent if settings.log_file else JOURNAL
    seen: set[int] = set()
    for folder in map(_existing, (settings.state_dir, settings.weights_dir, log)):
        device = folder.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield _check_file_system(folder)


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _check_file_system(folder: Path) -> Finding:
    usage = os.statvfs(folder)
    free_mb = usage.f_bavail * usage.f_frsize // 2**20
    text = f"{free_mb} MB free for {folder}"
    to_do = "free space: journalctl --vacuum-size=200M, remove unused packages"
    if usage.f_files and not usage.f_favail:
        return Finding("failure", "disk", f"no free inodes for {folder}", to_do)
    if free_mb >= LOW_DISK_MB:
        return Finding("ok", "disk", text)
    return Finding("warning" if free_mb >= FULL_DISK_MB else "failure", "disk", text, to_do)


def check_clock(settings: Settings) -> Findings:
    """Check that the clock is not before this release or before the last start."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    to_do = "set the clock (timedatectl set-time); licences depend on it"
    if time.time() < Path(__file__).stat().st_mtime:
        yield Finding("failure", "clock", f"{now} is before the date of this release", to_do)
    elif time.time() + CLOCK_TOLERANCE_S < _last_start(settings):
        yield Finding("failure", "clock", f"{now} is before the server's last start", to_do)
    else:
        yield Finding("ok", "clock", now)


def _last_start(settings: Settings) -> float:
    try:
        return (settings.state_dir / COUNTER_FILE).stat().st_mtime
    except OSError:
        return 0.0


def check_fips(settings: Settings) -> Findings:
    """Say that FIPS mode is on; with an OpenCV that cannot stand it, no command gets here."""
    if source := fips_source():
        yield Finding("ok", "fips", f"on ({source}); OpenCV contains no OpenSSL 1.1.1")


def check_gpu(settings: Settings) -> Findings:
    """Check that the GPUs that the settings require exist."""
    gpus = gpu_models()
    for model in gpus.values():
        yield Finding("ok", "gpu", model)
    if settings.device.startswith("cuda") and not gpus:
        to_do = "install the NVIDIA driver (nvidia-smi must work), or set device = cpu"
        yield Finding("failure", "gpu", f"device = {settings.device}, but no GPU found", to_do)
    elif not gpus:
        yield Finding("ok", "gpu", "none found, none required")
