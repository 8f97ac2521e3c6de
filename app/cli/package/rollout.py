"""Waiting until every worker serves an activated version."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from app.cli.output import clear_status, show_status
from app.errors import OperatorError
from app.packages.store import desired_version
from app.reporting.counts import pluralise
from app.serving.status_file import WorkerStatus, live_workers
from app.settings import Settings

if TYPE_CHECKING:
    from app.packages.changes import Activation

WAIT_TIMEOUT_S = 300
_POLL_S = 0.1


def wait_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--wait`` and ``--timeout``."""
    command = click.option(
        "--timeout",
        type=click.IntRange(1, 86400),
        default=WAIT_TIMEOUT_S,
        show_default=True,
        help="of --wait, in seconds",
    )(command)
    return click.option("--wait", is_flag=True, help="return once every worker serves it")(command)


def wait_until_served(settings: Settings, activation: "Activation", timeout_s: int) -> int:
    """Wait until every worker that uses the weights folder serves an activated version.

    Returns:
        How many workers serve it; 0 if no server is running.

    Raises:
        OperatorError: a worker could not load it and the activation was reverted, another
            change came in between, or the timeout expired.
    """
    try:
        workers = _wait(settings, activation, timeout_s)
    finally:
        clear_status()
    name = activation.folder.parent.name
    problems = [worker.names[name].problem for worker in workers if worker.names[name].problem]
    if problems:
        raise OperatorError(_revert(settings, activation, problems[0]))
    return len(workers)


def _wait(settings: Settings, activation: "Activation", timeout_s: int) -> list[WorkerStatus]:
    name = activation.folder.parent.name
    deadline = time.monotonic() + timeout_s
    workers = live_workers(settings.state_dir, settings.weights_dir)
    while behind := [worker for worker in workers if not _has_applied(worker, activation)]:
        _require_current(activation)
        show_status(f"{len(workers) - len(behind)} of {pluralise(len(workers), 'worker')} switched")
        if time.monotonic() > deadline:
            pids = ", ".join(str(worker.pid) for worker in behind)
            raise OperatorError(
                f"{name}/{activation.folder.name} is active, but after {timeout_s} s not served "
                f"by {len(behind)} of {pluralise(len(workers), 'worker')} (pid {pids}); see the "
                "log of the server"
            )
        time.sleep(_POLL_S)
        workers = live_workers(settings.state_dir, settings.weights_dir)
    return workers


def _has_applied(worker: WorkerStatus, activation: "Activation") -> bool:
    status = worker.names.get(activation.folder.parent.name)
    return status is not None and status.generation == activation.generation


def _require_current(activation: "Activation") -> None:
    name_folder = activation.folder.parent
    if desired_version(name_folder).generation != activation.generation:
        raise OperatorError(
            f"{name_folder.name}/{activation.folder.name} was activated, but the package was "
            "changed again before every worker served it"
        )


def _revert(settings: Settings, activation: "Activation", problem: str) -> str:
    from app.packages.changes import undo

    text = f"{activation.folder} cannot be served: {problem}"
    if undo(settings.weights_dir, activation):
        return f"{text}\nthe activation is reverted: {activation.before[0]} is active"
    return f"{text}\nit is still the active version: activate another one before a restart"
