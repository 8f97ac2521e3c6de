"""What of this machine the process may use."""

import math
import os
import platform
import resource
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cpus(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Count the CPUs that this process may keep busy, at least 1.

    The machine's count is no guide: a container or a systemd unit may be bound to some
    cores (affinity) or to a share of time (cgroup quota), and more busy threads than that
    only wait for each other.

    Args:
        cgroup_root: where the cgroup file system is mounted.
    """
    affinity = len(os.sched_getaffinity(0))
    quota = _cgroup_v2_quota(cgroup_root) or _cgroup_v1_quota(cgroup_root)
    return max(1, min(affinity, math.floor(quota))) if quota else affinity


def usable_memory_mb(meminfo: Path = Path("/proc/meminfo"), cgroup_root: Path = CGROUP_ROOT) -> int:
    """Say how many megabytes this process may have: the machine's, or its cgroup's.

    Args:
        meminfo: the kernel's description of the memory.
        cgroup_root: where the cgroup file system is mounted.
    """
    total_kb = next(
        int(line.split()[1]) for line in meminfo.read_text().splitlines() if "MemTotal" in line
    )
    limits = [total_kb * 1024 // 1_000_000, *map(_memory_max_mb, _own_groups(cgroup_root))]
    return min(limit for limit in limits if limit is not None)


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name the processor, and whether it has the instructions that engines differ by.

    Args:
        cpuinfo: the kernel's description of the processors.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    pairs = (line.partition(":")[::2] for line in lines if ":" in line)
    first = {key.strip(): value.strip() for key, value in reversed(list(pairs))}
    name = first.get("model name") or first.get("CPU part") or platform.machine()
    flags = set((first.get("flags") or first.get("Features") or "").split())
    told = flags & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "bf16"}
    return " ".join([name, *sorted(told)])


def raise_file_limit(wanted: int) -> int:
    """Let this process and its children open so many files, as far as it may; say how many.

    Most systems start a process with 1024, a number for programs that call select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        return allowed
    return wanted if soft == resource.RLIM_INFINITY else soft


def _cgroup_v2_quota(root: Path) -> float | None:
    """The tightest ``cpu.max`` from this process's group up to the root, in CPUs."""
    quotas = [
        int(limit) / int(period)
        for limit, period in map(_cpu_max, _own_groups(root))
        if limit not in {"", "max"}
    ]
    return min(quotas, default=None)


def _own_groups(root: Path) -> list[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return [root]
    relative = next((line[3:] for line in lines if line.startswith("0::")), "/").strip("/")
    group = root / relative
    return [group, *(parent for parent in group.parents if parent.is_relative_to(root))]


def _cpu_max(group: Path) -> tuple[str, str]:
    """Read ``LIMIT PERIOD`` in microseconds (kernel: Documentation/admin-guide/cgroup-v2)."""
    try:
        limit, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return "", ""
    return limit, period


def _memory_max_mb(group: Path) -> int | None:
    """Read ``memory.max`` in bytes (kernel: Documentation/admin-guide/cgroup-v2)."""
    try:
        return int((group / "memory.max").read_text()) // 1_000_000
    except (OSError, ValueError):  # it is not there, or says "max"
        return None


def _cgroup_v1_quota(root: Path) -> float | None:
    try:
        limit = int((root / "cpu/cpu.cfs_quota_us").read_text())
        period = int((root / "cpu/cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return limit / period if limit > 0 else None
