"""95 % intervals of what was counted on a sample of photos."""

import math
from statistics import NormalDist

Interval = tuple[float, float]

_Z = NormalDist().inv_cdf(0.975)


def share_interval(right: int, count: int) -> Interval:
    """The interval of a share, by Wilson, 1927; from 0 to 1."""
    share, doubt = right / count, _Z**2 / count
    middle = share + doubt / 2
    half = _Z * math.sqrt(share * (1 - share) / count + doubt / count / 4)
    low, high = (middle - half) / (1 + doubt), (middle + half) / (1 + doubt)
    # At the ends only rounding keeps them from 0 and 1.
    return (0.0 if right == 0 else low), (1.0 if right == count else high)


def drop_interval(lost: int, gained: int, count: int) -> Interval:
    """The interval of how much a share drops between two results for the same photos.

    By Agresti and Min, Simple improved confidence intervals for comparing matched proportions,
    2005: half a photo is added to each of the four cells.

    Args:
        lost: photos that were right before and are wrong now.
        gained: photos that were wrong before and are right now.
        count: all photos.
    """
    size, b, c = count + 2, lost + 0.5, gained + 0.5
    drop = (b - c) / size
    half = _Z * math.sqrt((b + c - (b - c) ** 2 / size) / size**2)
    return drop - half, drop + half
