"""Photos in a bucket of S3, or of a service with its interface, read by pyarrow."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from app.batch.photos import Content, Photo, Read, Source, read_content
from app.errors import OperatorError
from app.system.files import is_foreign

ADVICE = "check the address, AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and the credentials of AWS"


@dataclass
class S3Reader:
    """Reads objects by their key after a prefix.

    Attributes:
        url: ``s3://BUCKET/PREFIX``, with pyarrow's options in its query.
        root: the bucket and the prefix.
    """

    url: str
    root: str
    latency = True
    _files: Any = field(default=None, repr=False, compare=False)

    def check(self) -> None:
        """See Reader."""
        self._files, _ = _connect(self.url)

    def read(self, photos: Iterable[Photo]) -> Iterator[Read]:
        """See Reader."""
        return (partial(self._read, photo.name, photo.size) for photo in photos)

    def _read(self, name: str, size: int) -> Content:
        try:
            with self._files.open_input_stream(f"{self.root}/{name}") as stream:
                return read_content(stream, size)
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as exc:
            # Not the fault of one object: the network, or the service.
            raise OperatorError(f"{self.root}/{name} cannot be read; {ADVICE}") from exc


def list_bucket(url: str) -> Source:
    """List the objects below a prefix, without hidden and foreign ones.

    Raises:
        OperatorError: pyarrow is not installed, or the bucket cannot be listed.
    """
    files, root = _connect(url)
    from pyarrow.fs import FileSelector, FileType

    try:
        entries = files.get_file_info(FileSelector(root, recursive=True))
    except OSError as exc:
        raise OperatorError(f"{url} cannot be listed; {ADVICE}") from exc
    objects = [entry for entry in entries if entry.type == FileType.File]
    photos = sorted(
        (
            Photo(entry.path.removeprefix(f"{root}/"), entry.size, entry.mtime_ns or 0)
            for entry in objects
            if not _is_hidden(entry.path.removeprefix(f"{root}/"))
        ),
        key=lambda photo: photo.name,
    )
    name = url.partition("?")[0]
    return Source(name, S3Reader(url, root), photos, len(objects) - len(photos))


def _connect(url: str) -> tuple[Any, str]:
    try:
        from pyarrow.fs import FileSystem
    except ImportError as exc:
        raise OperatorError("s3:// needs pyarrow: pip install 'classifyd[s3]'") from exc
    try:
        files, root = FileSystem.from_uri(url)
    except (OSError, ValueError) as exc:
        raise OperatorError(f"{url} cannot be opened; {ADVICE}") from exc
    return files, root.rstrip("/")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or is_foreign(part) for part in name.split("/"))
