"""The row of a photo, and the three forms in which rows are written."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import orjson

from app.errors import OperatorError

Result = dict[str, str | float]
"""``name`` and ``score`` of a class, as in an answer of the API."""


@dataclass(frozen=True)
class Model:
    """What classified a photo: the deploy name, the version and the digest of its package."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True)
class Row:
    """What is known of one photo.

    Attributes:
        path: the photo's path in the source, as text.
        sha256: of its bytes, in hexadecimal; None if it could not be read.
        results: by descending score, empty after an error.
        error_code: a code of the API, None without an error.
        error_detail: the exact cause of the error, otherwise empty.
    """

    path: str
    sha256: str | None
    results: Sequence[Result] = ()
    error_code: int | None = None
    error_detail: str = ""


class RowFormat(Protocol):
    """Writes and reads files of rows."""

    def encode(self, rows: Sequence[Row], model: Model, top_num: int) -> bytes:
        """Return a file with these rows, of ``top_num`` results or fewer."""
        ...

    def error_codes(self, path: Path) -> list[int | None]:
        """Return the error code of each row of a file.

        Raises:
            ValueError: it is damaged.
            OSError: it cannot be read.
        """
        ...


class JsonLines:
    """One JSON object a line."""

    def encode(self, rows: Sequence[Row], model: Model, top_num: int) -> bytes:
        """See RowFormat."""
        lines = [orjson.dumps(_flatten(row, model)) + b"\n" for row in rows]
        return b"".join(lines)

    def error_codes(self, path: Path) -> list[int | None]:
        """See RowFormat."""
        return [orjson.loads(line)["error_code"] for line in path.read_bytes().splitlines()]


class Csv:
    """One line a photo, after a line of names; the classes are in columns beside each other."""

    def encode(self, rows: Sequence[Row], model: Model, top_num: int) -> bytes:
        """See RowFormat."""
        places = range(1, top_num + 1)
        names = [name for place in places for name in (f"class_{place}", f"score_{place}")]
        stream = io.StringIO(newline="")
        plain = [_flatten(row, model) for row in rows]
        table = csv.DictWriter(stream, [*_COLUMNS, *names], lineterminator="\n")
        table.writeheader()
        for cells in plain:
            for place, result in enumerate(cells.pop("results"), start=1):
                cells |= {f"class_{place}": result["name"], f"score_{place}": result["score"]}
            table.writerow(cells)
        return stream.getvalue().encode()

    def error_codes(self, path: Path) -> list[int | None]:
        """See RowFormat."""
        with path.open(encoding="utf-8", newline="") as stream:
            codes = [row["error_code"] for row in csv.DictReader(stream, strict=True)]
        return [int(code) if code else None for code in codes]


class Parquet:
    """Apache Parquet, written by pyarrow; scores are float32."""

    def encode(self, rows: Sequence[Row], model: Model, top_num: int) -> bytes:
        """See RowFormat."""
        import pyarrow
        from pyarrow import parquet

        text = pyarrow.string()
        result = pyarrow.struct({"name": text, "score": pyarrow.float32()})
        types = dict.fromkeys(_COLUMNS, text) | {"error_code": pyarrow.int32()}
        schema = pyarrow.schema(types | {"results": pyarrow.list_(result)})
        table = pyarrow.Table.from_pylist([_flatten(row, model) for row in rows], schema)
        stream = io.BytesIO()
        parquet.write_table(table, stream)
        return stream.getvalue()

    def error_codes(self, path: Path) -> list[int | None]:
        """See RowFormat."""
        from pyarrow import parquet

        # pyarrow's exceptions for a damaged file are ValueErrors or OSErrors.
        column = parquet.read_table(path, columns=["error_code"]).column(0)
        codes: list[int | None] = column.to_pylist()
        return codes


_COLUMNS = (
    *("path", "sha256", "error_code", "error_detail"),
    *("model", "model_version", "model_digest"),
)

FORMATS: dict[str, RowFormat] = {"parquet": Parquet(), "jsonl": JsonLines(), "csv": Csv()}
"""By the ending of their files."""


def default_format() -> str:
    """Return Parquet if pyarrow is installed, otherwise JSON lines; does not import it."""
    return "parquet" if find_spec("pyarrow") else "jsonl"


def require_format(name: str) -> None:
    """Require that a format can be written here.

    Raises:
        OperatorError: pyarrow is missing.
    """
    if name == "parquet" and not find_spec("pyarrow"):
        raise OperatorError("Parquet needs pyarrow: pip install 'classifyd[parquet]'")


def count_codes(codes: Sequence[int | None]) -> Counter[int]:
    """Count the errors by their code."""
    return Counter(code for code in codes if code is not None)


def _flatten(row: Row, model: Model) -> dict[str, Any]:
    return {
        "path": row.path,
        "sha256": row.sha256,
        "results": list(row.results),
        "error_code": row.error_code,
        "error_detail": row.error_detail,
        "model": model.name,
        "model_version": model.version,
        "model_digest": model.digest,
    }
