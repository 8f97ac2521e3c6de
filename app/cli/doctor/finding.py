"""What a check of ``classifyd doctor`` yields."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        level: the state.
        subject: what was checked.
        text: what was found.
        to_do: how to fix it; empty if there is nothing to do.
    """

    level: Level
    subject: str
    text: str
    to_do: str = ""


Findings = Iterator[Finding]
