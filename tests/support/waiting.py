"""Waiting for something that happens soon, at an unknown time."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool], what: object = "", *, wait_s: float, pause_s: float
) -> None:
    """Ask again and again, until the condition holds or the time is over."""
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, f"waited too long: {what}"
        time.sleep(pause_s)
