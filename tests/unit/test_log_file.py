"""The log file while its disk is full."""

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from app.observability.log_file import RotatedFileHandler


@contextmanager
def _no_room_beyond(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: writes are cut off, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _emit(handler: logging.Handler, message: str) -> None:
    handler.emit(logging.LogRecord("test", logging.INFO, "", 0, message, None, None))


def test_a_full_disk_damages_no_line_but_the_one_it_cuts_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "access.log"
    first, second = RotatedFileHandler(path), RotatedFileHandler(path)
    _emit(first, "whole")
    with _no_room_beyond(10):
        _emit(first, "cut off")
        _emit(second, "without room")
    assert path.read_text() == "whole\ncut "
    assert capsys.readouterr().err == "cut off\nwithout room\n"
    _emit(second, "again")
    _emit(first, "and again")
    assert path.read_text() == "whole\ncut \nagain\nand again\n"
    first.close()
    second.close()


def test_a_log_that_can_be_written_nowhere_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = RotatedFileHandler(tmp_path / "access.log")
    with suppress(OSError), Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr("sys.stderr", full)
        with _no_room_beyond(0):
            _emit(handler, "lost")
        monkeypatch.undo()
        handler.close()
    # Reached: only closing the stream has failed.
    with pytest.raises(OSError, match="Bad file descriptor"):
        handler.close()
