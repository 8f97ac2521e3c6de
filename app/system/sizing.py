"""How many worker processes a server has."""

from pathlib import Path

from app.settings import Settings
from app.system.cpus import usable_cpus, usable_memory_mb

CPUS_EACH = 2
"""Python's lock lets one thread of a process run at a time: of four CPUs one worker made 0.7
of what two workers with two each did, and of two CPUs one worker made the most."""

MEMORY_MB_EACH = 2000
"""A worker with a small model takes a quarter of that; larger models and images the rest."""

NVIDIA_DRIVER = Path("/proc/driver/nvidia")


def worker_count(settings: Settings) -> int:
    """The setting ``workers``, or what this machine is best used with.

    That is one where a card may compute: more of them would share its memory.
    """
    if settings.workers:
        return settings.workers
    if settings.device.startswith("cuda") or (settings.device == "auto" and NVIDIA_DRIVER.exists()):
        return 1
    return max(1, min(usable_cpus() // CPUS_EACH, usable_memory_mb() // MEMORY_MB_EACH))


def cpus_each(settings: Settings) -> int:
    """How many of this machine's CPUs each worker may keep busy, at least 1."""
    return max(1, usable_cpus() // worker_count(settings))
