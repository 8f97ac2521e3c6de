"""What a check of ``classifyd doctor`` yields."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was checked, what was found, and how to fix it."""

    level: Level
    subject: str
    text: str
    to_do: str = ""


Findings = Iterator[Finding]
