"""Wait for something that happens soon, at an unknown time."""

import time
from collections.abc import Callable

WAIT_S = 90
"""A safety net, far beyond what a busy machine needs."""


def wait_until(
    condition: Callable[[], bool],
    what: object = "",
    *,
    wait_s: float = WAIT_S,
    pause_s: float = 0.05,
) -> None:
    """Ask until the condition holds.

    Args:
        condition: is asked once every ``pause_s``.
        what: the event that is waited for, for the message of a failure.
        wait_s: how long to wait before the test fails.
        pause_s: between two questions.
    """
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {wait_s:.0f} s: {what}"
        time.sleep(pause_s)
