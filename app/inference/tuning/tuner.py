"""Tuning: the engine for a package is selected once per machine, in a separate process.

``python -m app.inference.tuning.tuner`` is that process. A worker would keep the memory that
loading every candidate takes, and an engine that crashes must not take the worker down.
"""

import json
import logging
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

from app.errors import OperatorError, PackageError
from app.inference.engines.openvino import clear_cache
from app.inference.tuning.comparison import Progress, select_engine
from app.inference.tuning.selection import EngineRequirements, EngineSelection, SelectionStore
from app.packages.package import Package, load_package

_log = logging.getLogger(__name__)


def tune(
    package: Package,
    requirements: EngineRequirements,
    state_dir: Path,
    progress: Progress = lambda _: None,
    *,
    reuse: bool = False,
) -> EngineSelection:
    """Select an engine and store the selection in the state folder; see select_engine.

    With ``reuse``, nothing is measured if another process has stored a selection meanwhile.
    """
    store = SelectionStore(state_dir, package, requirements)
    with store.lock():
        if reuse and (stored := store.read()):
            return stored
        selection = select_engine(package, requirements, store.folder, progress)
        # It holds a compiled model of each candidate; a worker needs the selected ones only.
        clear_cache(store.folder)
        store.write(selection)
    return selection


def tune_in_process(package: Package, requirements: EngineRequirements, state_dir: Path) -> None:
    """Tune in a separate process, unless another process has just stored a selection.

    The content key of a sealed package goes through a pipe, because other processes can read
    the arguments and the environment of a process.

    Raises:
        PackageError: no candidate can serve the package, or the process failed.
    """
    arguments = {"folder": str(package.folder), "state_dir": str(state_dir), **asdict(requirements)}
    _log.info("measuring engines for %s, once for this machine", package.manifest.name)
    ended = subprocess.run(  # noqa: S603 - this interpreter and module
        [sys.executable, "-m", "app.inference.tuning.tuner", json.dumps(arguments)],
        input=package.content_key or b"",
        capture_output=True,
        check=False,
    )
    if ended.returncode != 0:
        text = ended.stderr.decode("utf-8", "replace")
        lines = text.strip().splitlines() or [f"exit status {ended.returncode}"]
        raise PackageError(package.folder, f"its engines cannot be measured: {lines[-1]}")


def main(text: str, content_key: bytes) -> int:
    """Run the process of tune_in_process; return its exit status."""
    arguments = json.loads(text)
    package = load_package(Path(arguments.pop("folder")))
    package = replace(package, content_key=content_key or None)
    state_dir = Path(arguments.pop("state_dir"))
    try:
        tune(package, EngineRequirements(**arguments), state_dir, reuse=True)
    except (OperatorError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.stdin.buffer.read()))
