"""Scores from the user's own training code, which a package must reproduce.

The builder's reference follows the same options as the package, so it cannot see a wrong one.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import OperatorError
from app.imaging.preprocess import FloatArray
from app.packages.build.golden import MAX_GOLDEN, GoldenImage
from app.packages.build.labels import read_text
from app.reporting.counts import pluralise

_FILE_KEYS = ("file", "image")


def read_golden_scores(path: Path, labels: Sequence[str]) -> list[GoldenImage]:
    """Read images with their scores or their top class, at most MAX_GOLDEN, spread evenly.

    Args:
        path: a CSV file with the column ``file`` (or ``image``), relative to it, and either one
            column for each label, or ``label`` and optionally ``score``. Or a JSON file: a list
            of objects with ``file`` and either ``scores`` (by label, or in the order of the
            labels), or ``label`` and optionally ``score``.
        labels: by class index.

    Raises:
        OperatorError: it cannot be read, or a row is wrong; the text names the row.
    """
    called = f"--golden-scores {path}"
    text = read_text(path, called)
    rows = _from_json(text, called) if path.suffix == ".json" else _from_csv(text, labels, called)
    if not rows:
        raise OperatorError(f"{called}: found no images")
    places = np.linspace(0, len(rows) - 1, min(MAX_GOLDEN, len(rows))).round().astype(int)
    return [_to_image(rows[i], path.parent, labels, f"{called}: row {i + 1}") for i in places]


def _from_json(text: str, called: str) -> list[Any]:
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise OperatorError(f"{called} is not JSON: {exc}") from exc
    if not isinstance(document, list):
        raise OperatorError(f"{called}: expected a list of objects with file and scores or label")
    return document


def _from_csv(text: str, labels: Sequence[str], called: str) -> list[Any]:
    header, *rows = [row for row in csv.reader(io.StringIO(text)) if row] or [[]]
    if not header or header[0] not in _FILE_KEYS:
        raise OperatorError(f"{called}: expected file as the first column, found {header[:1]}")
    names = header[1:]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise OperatorError(
                f"{called}: row {number}: expected {pluralise(len(header), 'column')}"
            )
    if names in (["label"], ["label", "score"]):
        return [dict(zip(header, row, strict=True)) for row in rows]
    if names == list(labels):
        return [{"file": row[0], "scores": row[1:]} for row in rows]
    return [{"file": row[0], "scores": dict(zip(names, row[1:], strict=True))} for row in rows]


def _to_image(row: Any, folder: Path, labels: Sequence[str], called: str) -> GoldenImage:
    file = next((row[key] for key in _FILE_KEYS if key in row), None) if _is_map(row) else None
    if not isinstance(file, str):
        raise OperatorError(f"{called}: expected an object with file and scores or label")
    try:
        data = (folder / file).read_bytes()
    except OSError as exc:
        raise OperatorError(f"{called}: {file} cannot be read: {exc.strerror}") from exc
    name = Path(file).name
    if "scores" in row:
        return GoldenImage(name, data, scores=_scores(row["scores"], labels, called))
    if row.get("label") not in labels:
        raise OperatorError(f"{called}: {row.get('label')!r} is none of the labels")
    score = None if row.get("score") in (None, "") else _number(row["score"], called)
    return GoldenImage(name, data, row["label"], score)


def _scores(given: Any, labels: Sequence[str], called: str) -> FloatArray:
    if _is_map(given):
        missing = [label for label in labels if label not in given]
        unknown = [name for name in given if name not in labels]
        if missing or unknown:
            wrong = f"no score for {missing[0]!r}" if missing else f"{unknown[0]!r} is no label"
            raise OperatorError(f"{called}: {wrong}; expected one score for each label")
        given = [given[label] for label in labels]
    if not isinstance(given, list) or len(given) != len(labels):
        raise OperatorError(
            f"{called}: expected {pluralise(len(labels), 'score')}, one for each label"
        )
    return np.array([_number(score, called) for score in given], np.float32)


def _number(given: Any, called: str) -> float:
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= 1:
        raise OperatorError(
            f"{called}: found {given!r}, expected a score from 0 to 1: after the softmax, or the "
            "logistic function of a multi-label model"
        )
    return number


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)
