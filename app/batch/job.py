"""What the processes and machines of a run are given, and what they return."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.batch.photos import Photo, Reader
from app.settings import Settings


@dataclass(frozen=True)
class Job:
    """What a process needs to classify shards; it is pickled to get there.

    Attributes:
        reader: reads the photos.
        package: folder of the package.
        settings: those of the engine, the device and the licences count.
        row_format: a key of FORMATS.
        top_num: number of classes of each row.
    """

    reader: Reader
    package: Path
    settings: Settings
    row_format: str
    top_num: int


@dataclass(frozen=True)
class Shard:
    """The photos of one file of rows."""

    index: int
    photos: Sequence[Photo]


@dataclass(frozen=True)
class ShardRows:
    """The content of a shard's file, and the errors in it by their code."""

    index: int
    content: bytes
    errors: Counter[int]


Compute = Callable[[Sequence[Shard]], Iterator[ShardRows]]
"""Classifies shards, and returns them as they are complete."""
