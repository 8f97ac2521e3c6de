"""kill -9 while the weights folder is changed; benchmarks/kill_changes.py does it 100 times."""

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


def test_killed_at_any_moment_the_store_is_whole(tmp_path: Path) -> None:
    in_the_middle = kill_changes(tmp_path, KILLS)
    assert in_the_middle > 0, "no kill came in the middle of a change"


def kill_changes(folder: Path, kills: int) -> int:
    """Kill so often, check after each kill, and count the kills in the middle of a change."""
    archives = []
    for version in ("1", "2", "3"):
        source = build_colour_package(folder / "source", "pets", ["red", "green"], version)
        archives.append(folder / f"pets-{version}.tar")
        write_archive(source, archives[-1])
    return sum(kill_once(folder / "weights", archives) for _ in range(kills))


def kill_once(weights: Path, archives: list[Path]) -> bool:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.churn", weights, *archives],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"changing\n"
        time.sleep(random.SystemRandom().uniform(0, LONGEST_S))
        process.kill()
    weights.mkdir(exist_ok=True)
    return check_store(weights)
