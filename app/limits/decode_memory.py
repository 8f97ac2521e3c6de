"""The bound on the memory that images take while they are decoded."""

from app.limits.fair_semaphore import FairSemaphore
from app.limits.lease import Lease

BYTES_PER_PIXEL = 12
"""Three bytes of RGB, four times: a progressive jpg of 4096 x 4096 px was measured at 190 MB
while it is decoded, and its preprocessing may copy the decoded image once."""


class DecodeMemoryLimiter(FairSemaphore):
    """Lets images be decoded as long as all of them together fit; the others wait in order.

    Args:
        max_bytes: for all images together; one that alone takes more has to be alone.
    """

    late_detail = "waited for memory to decode past the deadline"

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def reserve(self, width: int, height: int, deadline: float) -> Lease[float]:
        """Hold the memory that an image of this size may take, for the duration of the block.

        Args:
            width: in pixels.
            height: in pixels.
            deadline: time.monotonic() until which it may wait.

        Raises:
            ModelUnavailable: the deadline passed; raised where the block would begin.
        """
        return self._hold(min(width * height * BYTES_PER_PIXEL, self._max_bytes), deadline)

    def used_bytes(self) -> int:
        """Count the bytes that are reserved."""
        return self._taken

    def _fits(self, size: int) -> bool:
        return self._taken + size <= self._max_bytes
