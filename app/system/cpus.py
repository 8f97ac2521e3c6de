"""The CPUs, the memory and the open files that this process may use."""

import math
import os
import platform
import resource
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
CPUINFO, MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
"""See proc_cpuinfo(5) and proc_meminfo(5)."""


def usable_cpus(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Count the CPUs that this process may keep busy, at least 1.

    A container or a systemd unit may be limited to some cores (affinity) or to a share of
    their time (cgroup quota).
    """
    affinity = len(os.sched_getaffinity(0))
    return max(1, math.floor(min([affinity, *_cpu_quotas(cgroup_root)])))


def usable_memory_mb(meminfo: Path = MEMINFO, cgroup_root: Path = CGROUP_ROOT) -> int:
    """Return the megabytes that this process may use: the machine's, or its cgroup's limit."""
    total_kb = next(
        int(line.split()[1]) for line in meminfo.read_text().splitlines() if "MemTotal" in line
    )
    version_1 = cgroup_root / "memory/memory.limit_in_bytes"
    files = [version_1, *(group / "memory.max" for group in _own_groups(cgroup_root))]
    limits = [_read_numbers(file) for file in files]
    return min([total_kb * 1024, *(limit[0] for limit in limits if limit)]) // 1_000_000


def cpu_model(cpuinfo: Path = CPUINFO) -> str:
    """Return the processor's name and its instruction sets that matter to engines."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    pairs = (line.partition(":")[::2] for line in lines if ":" in line)
    first = {key.strip(): value.strip() for key, value in reversed(list(pairs))}
    name = first.get("model name") or first.get("CPU part") or platform.machine()
    flags = set((first.get("flags") or first.get("Features") or "").split())
    known = flags & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "bf16"}
    return " ".join([name, *sorted(known)])


def raise_file_limit(limit: int) -> int:
    """Raise the limit of open files of this process and its children; return the new limit.

    Most systems start a process with 1024, the limit of select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        return allowed
    return limit if soft == resource.RLIM_INFINITY else soft


def _cpu_quotas(root: Path) -> list[float]:
    """Return the CPU limits of this process's cgroup and its parents, in CPUs."""
    limits = [_read_numbers(group / "cpu.max") for group in _own_groups(root)]
    version_1 = (root / "cpu/cpu.cfs_quota_us", root / "cpu/cpu.cfs_period_us")
    limits.append([number for path in version_1 for number in _read_numbers(path)])
    # Each is a time per period, in microseconds; version 1 has -1 for no limit.
    return [limit[0] / limit[1] for limit in limits if len(limit) == 2 and limit[0] > 0]


def _own_groups(root: Path) -> list[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return [root]
    relative = next((line[3:] for line in lines if line.startswith("0::")), "/").strip("/")
    group = root / relative
    return [group, *(parent for parent in group.parents if parent.is_relative_to(root))]


def _read_numbers(path: Path) -> list[int]:
    """Read a file of a cgroup; empty if it is missing, or says ``max``: no limit."""
    try:
        return [int(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []
