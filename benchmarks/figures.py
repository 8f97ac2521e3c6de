"""Figures of an attack, each with the bound that it must reach."""

from dataclasses import dataclass

from benchmarks.attackers import MIN_SHARE
from benchmarks.clients import CHECK_IN_TIME_S, HealthSummary
from benchmarks.slow_clients import Outcome


@dataclass(frozen=True)
class Figure:
    """What was measured, and its bound.

    Attributes:
        name: says what it is, with its unit.
        value: NaN where there is none, which reaches no bound.
        bound: the smallest or the largest value that is good.
        is_minimum: which of the two.
    """

    name: str
    value: float
    bound: float
    is_minimum: bool = False

    @property
    def is_reached(self) -> bool:
        """Whether the value is good."""
        return self.value >= self.bound if self.is_minimum else self.value <= self.bound

    def cells(self) -> tuple[str, str, str, str]:
        """Four cells of a table: name, value, bound, and whether it is reached."""
        bound = f"{'at least' if self.is_minimum else 'at most'} {self.bound:g}"
        return self.name, f"{self.value:.3g}", bound, "ok" if self.is_reached else "missed"


def health_figure(*checks: HealthSummary) -> Figure:
    """The slowest health check."""
    slowest_s = max(check.slowest_s for check in checks)
    return Figure("slowest health check, s", slowest_s, CHECK_IN_TIME_S)


def figures_of(outcome: Outcome, min_share: float = MIN_SHARE, replaced: int = 0) -> list[Figure]:
    """What an attack must reach for good callers, health checks, the log and the workers.

    Args:
        outcome: of the attack.
        min_share: of their throughput that good callers keep during it.
        replaced: how many workers it ends by itself.
    """
    return [
        Figure("throughput during ÷ before", outcome.share(1), min_share, is_minimum=True),
        Figure("throughput after ÷ before", outcome.share(2), MIN_SHARE, is_minimum=True),
        health_figure(outcome.during, outcome.after),
        Figure("good calls without an answer", outcome.unanswered, 0),
        Figure("tracebacks in the log", outcome.tracebacks, 0),
        Figure("workers replaced", outcome.replaced, replaced),
    ]
