"""Changes a weights folder until it is killed: ``python -m tests.support.churn``.

It calls the product's own functions; only the kill comes from outside.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path

from app.errors import PackageError
from app.packages.archive import install_archive
from app.packages.changes import activate, remove_name, remove_version, roll_back
from app.packages.package import load_package
from app.packages.staging import STAGING_PREFIX
from app.packages.store import active_version, existing_name, visible_folders


def churn(weights_dir: Path, archives: list[Path]) -> None:
    """Install, activate, roll back and remove at random, forever."""
    choose = random.SystemRandom().choice
    versions = [archive.stem.rpartition("-")[2] for archive in archives]
    changes: list[Callable[[], object]] = [
        lambda: install_archive(choose(archives), weights_dir, None),
        lambda: activate(weights_dir, "pets", choose(versions)),
        lambda: roll_back(weights_dir, "pets"),
        lambda: remove_version(weights_dir, "pets", choose(versions)),
        lambda: remove_name(weights_dir, "pets"),
    ]
    weighted = [*changes[:1] * 6, *changes[1:2] * 6, *changes[2:3] * 3, *changes[3:]]
    print("changing", flush=True)  # noqa: T201 - the test waits for this line
    while True:
        try:
            choose(weighted)()
        except PackageError:
            continue  # there is no such version, or it exists already


def check_store(weights_dir: Path) -> bool:
    """Assert that a store is consistent.

    Returns:
        Whether the kill came in the middle of a change, which left a hidden folder.
    """
    hidden = any(weights_dir.glob(f"{STAGING_PREFIX}*"))
    if "pets" not in visible_folders(weights_dir):
        return hidden
    folder = existing_name(weights_dir, "pets")
    assert active_version(folder).name in visible_folders(folder)
    for version in visible_folders(folder).values():
        load_package(version)
    return hidden


if __name__ == "__main__":
    churn(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
