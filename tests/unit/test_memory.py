"""The heap, in a separate process: its settings would stay in force for all other tests."""

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
    after = heap.trim()
    # Not equal: the call itself may have touched a page.
    assert abs(after - resident_memory_bytes()) < 1_000_000
    print(before - after)
    """
)


def test_free_pages_between_blocks_in_use_are_returned() -> None:
    assert _returned_bytes(blocks=800) > 100_000_000


def test_little_growth_is_left_alone() -> None:
    assert abs(_returned_bytes(blocks=100)) < 1_000_000


def _returned_bytes(blocks: int) -> int:
    """Bytes that a process returns after it has freed this number of blocks of 256 KiB."""
    return int(run_program(HOLES.format(blocks=blocks)))
