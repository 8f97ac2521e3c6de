"""The results folder of a run: its plan, and one file for each shard that is complete."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from app.batch.rows import FORMATS, count_codes
from app.errors import OperatorError
from app.system.files import acquire_lock, atomic_write

PLAN, LOCK, SUMMARY = "_plan.json", "_lock", "_summary.json"
"""Readers of data sets, such as Spark's and pyarrow's, pass over names with an underscore."""

LARGEST_SHARD, SMALLEST_SHARD, SHARDS = 256, 16, 64
"""Rows of a shard, and how many shards even a small source has, to be spread over threads."""


@dataclass(frozen=True)
class Plan:
    """What a run does; a run that goes on must have the same.

    Attributes:
        source: the name of the source.
        photos: the number of its photos.
        listing: see Source.digest.
        package: deploy name and version.
        digest: of the package.
        format: a key of FORMATS.
        top_num: number of classes of each row.
        engine: the setting.
        precision: in which the model is computed: of an optimised version its own.
        device: the setting.
    """

    source: str
    photos: int
    listing: str
    package: str
    digest: str
    format: str
    top_num: int
    engine: str
    precision: str
    device: str

    @property
    def shard_rows(self) -> int:
        """Number of rows in each shard but the last."""
        return min(LARGEST_SHARD, max(SMALLEST_SHARD, self.photos // SHARDS))

    def shards(self) -> list[range]:
        """Return for each shard the places of its photos in the source."""
        step = self.shard_rows
        return [
            range(start, min(start + step, self.photos)) for start in range(0, self.photos, step)
        ]


class ResultsFolder:
    """A results folder that this process has locked.

    Attributes:
        folder: its path.
        plan: None before ``begin`` of a new run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan = self._read_plan()

    def begin(self, plan: Plan, restart: bool) -> dict[int, Counter[int]]:
        """Record the plan, or go on with it.

        Args:
            plan: what is to be done.
            restart: delete the rows of another plan, instead of refusing.

        Returns:
            The errors, by code, of each shard that is complete, by its number.

        Raises:
            OperatorError: the folder belongs to another plan, or to something else, or cannot
                be written.
            OSError: it cannot be read.
        """
        if self.plan is None:
            self._require_empty()
        elif restart:
            self._delete("_plan.json", "_summary.json", "part-*")
        elif changes := _describe_changes(self.plan, plan):
            raise OperatorError(
                f"{self.folder} holds rows of another run: {changes}; give another folder with "
                "--out, or --restart to delete these rows"
            )
        self._delete(".part-*", "._*")  # drafts of a killed run
        self.plan = plan
        document = json.dumps(asdict(plan), indent=2)
        if not (self.folder / PLAN).exists():
            self._write(PLAN, document.encode())
        return dict(self._complete_shards(plan))

    def write_shard(self, index: int, content: bytes) -> None:
        """Write the rows of a shard; the file has its name once it is complete and on the disk.

        Raises:
            OperatorError: it cannot be written.
        """
        assert self.plan  # noqa: S101 - after begin
        self._write(_shard_name(index, self.plan.format), content)

    def write_summary(self, document: object) -> None:
        """Record that the run is complete.

        Raises:
            OperatorError: it cannot be written.
        """
        self._write(SUMMARY, json.dumps(document, indent=2, ensure_ascii=False).encode())

    def _write(self, name: str, content: bytes) -> None:
        try:
            with atomic_write(self.folder / name) as stream:
                stream.write(content)
        except OSError as exc:
            raise OperatorError(
                f"{self.folder / name} cannot be written: {exc.strerror}; afterwards the same "
                "command goes on with what is missing"
            ) from exc

    def _read_plan(self) -> Plan | None:
        path = self.folder / PLAN
        try:
            return Plan(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as exc:
            raise OperatorError(
                f"{path} is damaged, or of another version of classifyd; give another folder "
                "with --out, or delete this one"
            ) from exc

    def _require_empty(self) -> None:
        others = [name for name in os.listdir(self.folder) if not name.startswith((".", "_"))]
        if others:
            raise OperatorError(
                f"{self.folder} is not empty and holds no run of classifyd batch; give another "
                "folder with --out"
            )

    def _delete(self, *patterns: str) -> None:
        for pattern in patterns:
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def _complete_shards(self, plan: Plan) -> Iterator[tuple[int, Counter[int]]]:
        """Check the files that are there; a damaged one is deleted, and made again."""
        for index, places in enumerate(plan.shards()):
            path = self.folder / _shard_name(index, plan.format)
            if not path.exists():
                continue
            try:
                codes = FORMATS[plan.format].error_codes(path)
            except (ValueError, KeyError):
                codes = []
            if len(codes) == len(places):
                yield index, count_codes(codes)
            else:
                path.unlink()


@contextmanager
def open_results(folder: Path) -> Iterator[ResultsFolder]:
    """Create the results folder if needed, and lock it for the block.

    Raises:
        OperatorError: another run writes to it, or it is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = acquire_lock(folder / LOCK, wait=False)
    except BlockingIOError as exc:
        raise OperatorError(f"another run is writing to {folder}") from exc
    except OSError as exc:
        raise OperatorError(f"{folder} cannot be written: {exc.strerror}") from exc
    try:
        yield ResultsFolder(folder)
    finally:
        os.close(descriptor)


def _shard_name(index: int, row_format: str) -> str:
    return f"part-{index:06}.{row_format}"


def _describe_changes(before: Plan, now: Plan) -> str:
    if before.source == now.source and before.listing != now.listing:
        if before.photos != now.photos:
            return f"the source had {before.photos} photos, and has {now.photos} now"
        return "photos of the source have changed since"
    pairs = [
        (key, old, asdict(now)[key]) for key, old in asdict(before).items() if key != "listing"
    ]
    return "; ".join(f"{key} was {old}, is {new} now" for key, old, new in pairs if old != new)
