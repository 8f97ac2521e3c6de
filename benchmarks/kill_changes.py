"""Kill -9 during install, activate, rollback and remove, at random moments.

    .venv/bin/python -m benchmarks.kill_changes --kills 100

After each kill the store is read: every visible version is complete, and every name has an active
version. The changes are made by the product's own functions, in a separate process.
"""

import argparse
import tempfile
from pathlib import Path

from tests.e2e.test_killed_changes import kill_changes


def main() -> None:
    """Run and print how many kills interrupted a change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as folder:
        in_the_middle = kill_changes(Path(folder), kills)
    print(f"{kills} kills, {in_the_middle} of them during a change; the store was always complete")


if __name__ == "__main__":
    main()
