"""The heap of a process of its own: what is set there would stay with all other tests."""

import textwrap

from tests.support.program import run_program

HOLES = textwrap.dedent(
    """
    from app.system.heap import Heap, bound_heap, resident_memory_bytes

    bound_heap()
    heap = Heap()
    images, small = [], []
    for _ in range({blocks}):
        images.append(bytearray(b"x" * 262_144))
        small.append(bytearray(b"x" * 1000))
    del images
    before = resident_memory_bytes()
    after = heap.give_back()
    assert after == resident_memory_bytes()
    print(before - after)
    """
)


def test_free_pages_between_blocks_in_use_are_given_back() -> None:
    assert _given_back(blocks=800) > 100_000_000


def test_little_growth_is_left_alone() -> None:
    assert abs(_given_back(blocks=100)) < 1_000_000


def _given_back(blocks: int) -> int:
    """Bytes that a process gives back after so many blocks of 256 KiB were free."""
    return int(run_program(HOLES.format(blocks=blocks)))
