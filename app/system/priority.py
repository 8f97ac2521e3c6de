"""Which threads of a worker the kernel prefers when it has more to run than cores."""

import os
import threading
from contextlib import suppress

COMPUTE_NICENESS = 10
"""Of threads that compute: the event loop and the threads of health checks and pages, which need
little, come first. Beside one thread of another process that is busy all the time, such a thread
gets a tenth of the core (sched(7)); services and containers share by their cgroups instead."""

COSTLY_NICENESS = 15
"""Of threads with costly images: beside one busy image thread on its core, such a thread gets a
quarter of it. With a lower priority large photos would hardly be served on a busy server."""


def lower_priority(niceness: int) -> None:
    """Add a niceness to that of the process, for the calling thread alone.

    Linux has a priority for each thread (setpriority(2), notes). A sandbox may forbid it; then
    all threads compete on equal terms.
    """
    with suppress(OSError):
        of_process = os.getpriority(os.PRIO_PROCESS, os.getpid())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), of_process + niceness)
