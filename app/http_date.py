"""The Date header of answers."""

import time
from email.utils import formatdate
from functools import lru_cache


def http_date() -> str:
    """Write the time of now as HTTP has it (RFC 9110, section 5.6.7)."""
    return _write(int(time.time()))


@lru_cache(maxsize=1)
def _write(unix_s: int) -> str:
    return formatdate(unix_s, usegmt=True)
