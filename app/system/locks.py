"""Locks that one thread holds until another one lets it go on."""

import threading


def held_lock() -> threading.Lock:
    """Make a lock that is held: waiting for its release costs less than an Event."""
    lock = threading.Lock()
    lock.acquire()
    return lock
