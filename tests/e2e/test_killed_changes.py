"""kill -9 during changes of the weights folder; benchmarks/kill_changes.py does it 100 times."""

import random
import subprocess
import sys
import time
from pathlib import Path

from app.packages.archive import write_archive
from app.settings import PROJECT_ROOT
from tests.support.churn import check_store
from tests.support.packages import build_colour_package

KILLS = 15
LONGEST_S = 0.3


def test_store_is_consistent_after_a_kill_at_any_moment(tmp_path: Path) -> None:
    in_the_middle = kill_changes(tmp_path, KILLS)
    assert in_the_middle > 0, "no kill came in the middle of a change"


def test_store_is_consistent_after_several_processes_are_killed_at_once(tmp_path: Path) -> None:
    kill_changes(tmp_path, kills=3, at_once=3)


def kill_changes(folder: Path, kills: int, at_once: int = 1) -> int:
    """Kill repeatedly, check after each kill, and count the kills in the middle of a change."""
    archives = []
    for version in ("1", "2", "3"):
        source = build_colour_package(folder / "source", "pets", ["red", "green"], version)
        archives.append(folder / f"pets-{version}.tar")
        write_archive(source, archives[-1])
    return sum(kill_once(folder / "weights", archives, at_once) for _ in range(kills))


def kill_once(weights: Path, archives: list[Path], at_once: int) -> bool:
    """Start processes, kill them at a random moment and check the store."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.churn", weights, *archives],
            cwd=PROJECT_ROOT,
            stdout=subprocess.PIPE,
        )
        for _ in range(at_once)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"changing\n"
    time.sleep(random.SystemRandom().uniform(0, LONGEST_S))
    for process in processes:
        assert process.poll() is None, "it ended by itself"
        process.kill()
        process.communicate()
    weights.mkdir(exist_ok=True)
    return check_store(weights)
