"""How many workers a server has, and which of them takes a connection."""

import os
from multiprocessing import get_context
from pathlib import Path

import pytest

from app.server.balance import SLOTS, Balance
from app.settings import Settings
from app.system import sizing
from app.system.cpus import usable_cpus, usable_memory_mb
from app.system.sizing import worker_count


@pytest.mark.parametrize(
    ("cpus", "memory_mb", "expected"),
    [
        (1, 4000, 1),
        (2, 8000, 1),
        (3, 8000, 1),
        (4, 8000, 2),
        (16, 64_000, 8),
        (16, 8000, 4),
        (4, 1500, 1),
    ],
)
def test_two_cpus_and_their_memory_make_a_worker(
    monkeypatch: pytest.MonkeyPatch, cpus: int, memory_mb: int, expected: int
) -> None:
    monkeypatch.setattr(sizing, "usable_cpus", lambda: cpus)
    monkeypatch.setattr(sizing, "usable_memory_mb", lambda: memory_mb)
    assert worker_count(Settings(device="cpu")) == expected
    assert worker_count(Settings(device="cpu", workers=3)) == 3
    assert worker_count(Settings(device="cuda")) == 1


def test_a_gpu_has_one_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sizing, "usable_cpus", lambda: 8)
    monkeypatch.setattr(sizing, "NVIDIA_DRIVER", tmp_path)
    assert worker_count(Settings(device="auto")) == 1


def test_memory_is_that_of_the_machine_or_of_the_control_group(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        8000000 kB\nMemFree:         1000 kB\n")
    assert usable_memory_mb(meminfo, tmp_path) == 8192
    (tmp_path / "memory.max").write_text("max\n")
    assert usable_memory_mb(meminfo, tmp_path) == 8192
    (tmp_path / "memory.max").write_text("1000000000\n")
    assert usable_memory_mb(meminfo, tmp_path) == 1000


def test_control_groups_of_version_1_limit_a_container_too(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        8000000 kB\n")
    limits = {
        "cpu/cpu.cfs_quota_us": (-1, 100_000),
        "cpu/cpu.cfs_period_us": (100_000, 100_000),
        # The first is no limit: the largest number of whole pages.
        "memory/memory.limit_in_bytes": (9223372036854771712, 1_572_864_000),
    }
    for name in limits:
        (tmp_path / name).parent.mkdir(exist_ok=True)
    for index, expected in enumerate([(len(os.sched_getaffinity(0)), 8192), (1, 1572)]):
        for name, values in limits.items():
            (tmp_path / name).write_text(f"{values[index]}\n")
        assert (usable_cpus(tmp_path), usable_memory_mb(meminfo, tmp_path)) == expected


def _publish_in_child(balance: Balance) -> None:
    balance.publish(1, 3)
    os._exit(0)


def test_who_has_fewest_connections_takes_the_next() -> None:
    balance = Balance()
    balance.publish(0, 4)
    assert not balance.is_anothers_turn(0)
    child = get_context("fork").Process(target=_publish_in_child, args=(balance,))
    child.start()
    child.join()
    assert balance.is_anothers_turn(0)
    assert not balance.is_anothers_turn(1)
    balance.clear(1)
    assert not balance.is_anothers_turn(0)


def test_workers_beyond_the_places_take_what_comes() -> None:
    balance = Balance()
    balance.publish(SLOTS, 1)
    balance.clear(SLOTS)
    assert not balance.is_anothers_turn(SLOTS)
