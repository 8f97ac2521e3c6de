"""The memory of request bodies: bounded, and taken from the slowest client first."""

import time

import pytest

from app.errors import ModelUnavailable
from app.limits import body_memory
from app.limits.body_memory import BodyMemory


def _never() -> None:
    raise AssertionError("evicted")


def test_bytes_are_given_back_at_the_end_of_the_block() -> None:
    memory = BodyMemory(100)
    with memory.reserve(_never) as reservation:
        reservation.grow(60)
        reservation.grow(40)
        assert memory.used_bytes() == 100
        with memory.reserve(_never) as other, pytest.raises(ModelUnavailable, match="used up"):
            other.grow(1)
    assert memory.used_bytes() == 0


def test_body_that_arrives_for_the_longest_time_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, evicted = BodyMemory(100), list[str]()
    with (
        memory.reserve(lambda: evicted.append("oldest")) as oldest,
        memory.reserve(lambda: evicted.append("older")) as older,
        memory.reserve(_never) as fast,
    ):
        oldest.grow(40)
        older.grow(40)
        monkeypatch.setattr(body_memory, "EVICTABLE_AFTER_S", 0)
        fast.grow(50)
        assert evicted == ["oldest"]
        assert memory.used_bytes() == 90
    assert memory.used_bytes() == 0


def test_body_that_has_arrived_is_never_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_memory, "EVICTABLE_AFTER_S", 0)
    memory = BodyMemory(100)
    with memory.reserve(_never) as whole, memory.reserve(_never) as next_one:
        whole.grow(90)
        whole.complete()
        with pytest.raises(ModelUnavailable):
            next_one.grow(20)


def test_young_body_is_not_evicted() -> None:
    memory = BodyMemory(100)
    with memory.reserve(_never) as young, memory.reserve(_never) as other:
        young.grow(90)
        assert time.monotonic() - young.started < body_memory.EVICTABLE_AFTER_S
        with pytest.raises(ModelUnavailable):
            other.grow(20)
