"""Mutations of JSON texts that keep most of their structure, so that they get past the parser."""

import copy
import json
from typing import Any

import numpy as np

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 5.0, 0.5, 1e-320, 1e308, -0.0, 255, 256, 2048, 2049, 2**31),
    *(2**53, 2**64, 10**30, "", "5", "0", "\u0665", "a", "\x00", "\n", "\ud800", "猫", "\u202e"),
    *([], {}, [[]], [None], {"": ""}, "A" * 300),
)
"""Values at the edges of what programs expect."""

TEXTS = (
    *(b"NaN", b"-Infinity", b"1e999", b"1" * 5000, b"[" * 2000, b'"\\ud800"', b'"\\u0000"'),
    *(b"\xef\xbb\xbf", b"\xff", b"{}", b"/*x*/", b"'", b"-", b"01", b'{"image":1,'),
)
"""What is written into a text as it is: no JSON, or hardly."""


def mutate_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a JSON text in one to three places; bytes that are no JSON are changed as text."""
    for _ in range(rng.integers(1, 4)):
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return _change_text(data, rng)
        if rng.integers(10) == 0:
            return _change_text(data, rng)
        data = json.dumps(_change(document, rng), ensure_ascii=bool(rng.integers(2))).encode(
            "utf-8", "surrogatepass"
        )
    return data


def _change(document: Any, rng: np.random.Generator) -> Any:
    """Change one value, at any depth, or the keys or items beside it."""
    holders = _holders(document)
    if not holders:
        return _value(rng)
    holder = holders[rng.integers(len(holders))]
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = keys[rng.integers(len(keys))]
    match rng.integers(6):
        case 0:
            del holder[key]
        case 1:
            _insert(holder, copy.deepcopy(holder[key]), rng)
        case 2:
            _insert(holder, _value(rng), rng)
        case 3:
            other = holders[rng.integers(len(holders))]
            holder[key] = copy.deepcopy(other)
        case _:
            holder[key] = _similar(holder[key], rng)
    return document


def _holders(value: Any) -> list[Any]:
    """Every object and list that is not empty."""
    if not isinstance(value, dict | list) or not value:
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(holder for each in inner for holder in _holders(each))]


def _insert(holder: Any, value: Any, rng: np.random.Generator) -> None:
    if isinstance(holder, dict):
        holder[str(rng.choice([*holder, "image", "top_num", "", "x" * 99, "\n\x1b"]))] = value
    else:
        holder.insert(int(rng.integers(len(holder) + 1)), value)


def _similar(value: Any, rng: np.random.Generator) -> Any:
    """A value of the same type, or any other."""
    if rng.integers(3) == 0:
        return _value(rng)
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        near = (value + 1, value - 1, -value, value * 2, value // 3, value * 0.3, value * 1.0)
        return near[rng.integers(len(near))]
    if isinstance(value, str):
        return _change_text(value.encode("utf-8", "surrogatepass"), rng).decode("latin-1")
    return _value(rng)


def _value(rng: np.random.Generator) -> Any:
    return copy.deepcopy(VALUES[rng.integers(len(VALUES))])


def _change_text(data: bytes, rng: np.random.Generator) -> bytes:
    at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 9))
    piece = TEXTS[rng.integers(len(TEXTS))]
    match rng.integers(4):
        case 0:
            return data[:at] + data[at + length :]
        case 1:
            return data[:at] + data[at : at + length] * 3 + data[at + length :]
        case 2:
            return data[:at] + piece + data[at:]
        case _:
            return data[:at] + rng.bytes(length) + data[at + length :]
