"""Runs of ``classifyd batch`` and their results."""

import json
from pathlib import Path
from typing import Any


def batch_options(weights: Path, name: str, out: Path, *more: object) -> tuple[object, ...]:
    """The options of a run with an engine that needs no tuning."""
    state = out.parent / "state"
    return (
        *("--package", name, "--weights-dir", weights, "--out", out),
        *("--state-dir", state, "--engine", "torchscript", "--format", "jsonl"),
        *more,
    )


def read_rows(out: Path) -> list[dict[str, Any]]:
    """The rows of a results folder, in order."""
    parts = sorted(out.glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_bytes().splitlines()]
