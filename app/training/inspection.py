"""The photos themselves: which cannot be read, which are nearly the same."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from app.errors import ApiError
from app.evaluation.dataset import read_image
from app.imaging.decode import Reduction, decode
from app.imaging.guard import guard
from app.imaging.header import ImageHeader
from app.reporting.counts import pluralise
from app.training.photos import MAX_NAMED, DataError, Photo, check_classes

NEAR_BITS = 6
"""Of the 64 bits of a perceptual hash. Of the 78,606 pairs of 397 different photos the two most
alike differed in 14; 50 photos and their copies at half the size, at JPEG quality 40, or 10 %
brighter differed in at most 6; cropped by 5 %, 44 of the 50 did."""

_HASHED_SIDE_PX = 64
_ROWS = 1024

Pair = tuple[int, int]


@dataclass(frozen=True)
class Inspected:
    """A photo that the server would accept, the SHA-256 of its file and its perceptual hash."""

    photo: Photo
    sha256: str
    perceptual_hash: int


def inspect_photos(
    folder: Path,
    photos: Sequence[Photo],
    run: Callable[[Callable[[Photo], Inspected | str], Sequence[Photo]], Iterable[Inspected | str]],
) -> tuple[list[Inspected], list[str]]:
    """Read every photo as the server does.

    Args:
        folder: for messages.
        photos: from read_photos.
        run: maps a function over the photos, on all cores, in order.

    Returns:
        The readable photos, and remarks about the others.

    Raises:
        DataError: too few photos are left, or one is in two classes.
    """
    results = list(run(_inspect, photos))
    readable = [result for result in results if isinstance(result, Inspected)]
    problems = [result for result in results if isinstance(result, str)]
    remarks = problems[:MAX_NAMED]
    if problems:
        count = pluralise(len(problems), "photo")
        remarks.append(f"{count} cannot be read and are left out: convert or remove them")
    if not readable:
        raise DataError(folder, remarks)
    check_classes(folder, [entry.photo for entry in readable], remarks)
    _require_one_class_each(folder, readable)
    return readable, remarks


def _inspect(photo: Photo) -> Inspected | str:
    data = read_image(photo.path)
    try:
        header, clean = guard(data)
        # A photo that is damaged anywhere is refused at any size.
        pixels = decode(header, clean, _reduction(header))
    except ApiError as exc:
        return f"{photo.path}: {exc.detail}"
    bits = imagehash.phash(Image.fromarray(pixels)).hash
    number = int("".join("1" if bit else "0" for bit in bits.flatten()), 2)
    return Inspected(photo, hashlib.sha256(data).hexdigest(), number)


def _reduction(header: ImageHeader) -> Reduction:
    divisors: tuple[Reduction, ...] = (8, 4, 2)
    shortest = min(header.height, header.width)
    return next((by for by in divisors if shortest // by >= _HASHED_SIDE_PX), 1)


def _require_one_class_each(folder: Path, photos: Sequence[Inspected]) -> None:
    by_content = defaultdict(list)
    for entry in photos:
        by_content[entry.sha256].append(entry.photo)
    faults = [
        f"{' and '.join(str(photo.path.relative_to(folder)) for photo in same)} are the same "
        "photo in two classes: delete it from the wrong one"
        for same in by_content.values()
        if len({photo.label for photo in same}) > 1
    ]
    if faults:
        raise DataError(folder, faults[:MAX_NAMED])


def near_duplicates(photos: Sequence[Inspected]) -> list[Pair]:
    """Find the pairs of photos, by index, that are nearly the same."""
    hashes = np.array([entry.perceptual_hash for entry in photos], np.uint64)
    return [pair for start in range(0, len(hashes), _ROWS) for pair in _pairs(hashes, start)]


def _pairs(hashes: npt.NDArray[np.uint64], start: int) -> Iterator[Pair]:
    rows = hashes[start : start + _ROWS, np.newaxis]
    near = np.bitwise_count(rows ^ hashes) <= NEAR_BITS
    for row, column in zip(*np.nonzero(near), strict=True):
        if start + row < column:
            yield int(start + row), int(column)


def describe_leaks(folder: Path, photos: Sequence[Inspected], pairs: Sequence[Pair]) -> list[str]:
    """Name the held-out photos that nearly equal one to train on."""
    leaks = [
        pair for pair in pairs if photos[pair[0]].photo.held_out != photos[pair[1]].photo.held_out
    ]
    names = [
        " and ".join(str(photos[index].photo.path.relative_to(folder)) for index in pair)
        for pair in leaks[:MAX_NAMED]
    ]
    if not leaks:
        return []
    return [
        f"{name} are nearly the same photo, one to train on, the other held out" for name in names
    ] + [
        f"{pluralise(len(leaks), 'pair')} of near-duplicates: the figures will be too good; delete "
        "one of each, or move both to the same side"
    ]
