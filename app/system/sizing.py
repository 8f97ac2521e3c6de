"""The number of worker processes."""

from pathlib import Path

from app.settings import Settings
from app.system.cpus import usable_cpus, usable_memory_mb

CPUS_PER_WORKER = 2
"""The GIL limits a process: on four CPUs one worker had 0.7 of the throughput of two workers, on
two CPUs one worker had the highest."""

MEMORY_MB_PER_WORKER = 2000
"""A worker with a small model takes a quarter of that; the rest is for larger ones and images."""

NVIDIA_DRIVER = Path("/proc/driver/nvidia")


def worker_count(settings: Settings) -> int:
    """Return the setting ``workers``, or the default for this machine.

    With a GPU the default is 1, because several workers would share its memory.
    """
    if settings.workers:
        return settings.workers
    if settings.device.startswith("cuda") or (settings.device == "auto" and NVIDIA_DRIVER.exists()):
        return 1
    return max(1, min(usable_cpus() // CPUS_PER_WORKER, usable_memory_mb() // MEMORY_MB_PER_WORKER))


def cpus_per_worker(settings: Settings) -> int:
    """Return the number of CPUs that each worker may keep busy, at least 1."""
    return max(1, usable_cpus() // worker_count(settings))
