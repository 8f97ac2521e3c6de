"""What the scans of a JPEG image have sent of its coefficients (ITU-T T.81, B.2.3 and G.1.1)."""

from app.errors import ImageDecodeFailed

_COEFFICIENTS = 64  # of a block
_ALL = (0, _COEFFICIENTS - 1, 0)
"""Coefficients and bits of a scan that is not progressive."""

_NOT_SENT = b"\xff"


class ScanProgress:
    """The precision that each coefficient has reached.

    Args:
        components: their identifiers, from the frame header.
        is_progressive: whether a scan may send some of the coefficients, or some of their bits.
    """

    def __init__(self, components: bytes, is_progressive: bool) -> None:
        self._is_progressive = is_progressive
        self._missing_bits = {
            component: bytearray(_NOT_SENT * _COEFFICIENTS) for component in components
        }

    def add(self, parameters: bytes) -> None:
        """Take account of a scan.

        Args:
            parameters: of the scan header, from the number of components.

        Raises:
            ImageDecodeFailed: it is too short, its coefficients do not exist, or it continues
                others than were sent.
        """
        tail = 1 + 2 * parameters[0] if parameters else 0
        if len(parameters) < tail + 3:
            raise ImageDecodeFailed("jpg: a scan header is too short")
        first, last, bits = parameters[tail : tail + 3] if self._is_progressive else _ALL
        if not first <= last < _COEFFICIENTS:
            raise ImageDecodeFailed(f"jpg: a scan of the coefficients {first} to {last}")
        count = last + 1 - first
        for component in parameters[1:tail:2]:
            missing_bits = self._missing_bits.get(component, bytearray(_COEFFICIENTS))
            sent = missing_bits[first : last + 1].replace(_NOT_SENT, b"\0")
            # The high four bits say what is missing before the scan, the low ones after it.
            if sent != bytes([bits >> 4]) * count:
                raise ImageDecodeFailed("jpg: the scans are in a wrong order")
            missing_bits[first : last + 1] = bytes([bits & 0x0F]) * count

    @property
    def is_complete(self) -> bool:
        """Whether every bit of every coefficient has been sent."""
        return not any(any(bits) for bits in self._missing_bits.values())
