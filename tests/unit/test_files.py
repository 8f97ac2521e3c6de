"""Atomic writes, locks and temporary folders that several processes share."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT
from app.system.files import (
    acquire_lock,
    atomic_write,
    claim_folder,
    file_lock,
    read_regular,
    remove_abandoned,
)

HOLD = """
import sys
from pathlib import Path
from app.system.files import acquire_lock
acquire_lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_readers_see_the_old_content_until_the_block_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [True, False])
def test_a_failed_write_changes_nothing_and_leaves_no_draft(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path, durable=durable) as stream:
            stream.write(b"new")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_the_mode_is_that_of_the_draft_too(tmp_path: Path, mode: int) -> None:
    with atomic_write(tmp_path / "file", mode) as stream:
        assert stat.S_IMODE(os.fstat(stream.fileno()).st_mode) == mode
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_the_draft_is_written_where_it_is_told(tmp_path: Path) -> None:
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    with atomic_write(tmp_path / "file", draft_folder=drafts):
        assert len(list(drafts.iterdir())) == 1
        assert list(tmp_path.iterdir()) == [drafts]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_writes_for_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with atomic_write(tmp_path / "file", 0o600, owner_of=tmp_path):
        pass
    assert (tmp_path / "file").stat().st_uid == 12345


def test_a_lock_is_released_when_its_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError):
            acquire_lock(path, wait=False)
        holder.kill()
        holder.wait()
    with file_lock(path), pytest.raises(BlockingIOError):
        acquire_lock(path, wait=False)
    os.close(acquire_lock(path, wait=False))


def test_a_fifo_in_place_of_a_lock_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock", 0o600)
    with file_lock(tmp_path / "lock"):
        pass


def test_only_folders_without_a_living_owner_are_removed(tmp_path: Path) -> None:
    for name in ("claimed", "released", "never-claimed"):
        (tmp_path / name / "inner").mkdir(parents=True)
    claim = claim_folder(tmp_path / "claimed")
    os.close(claim_folder(tmp_path / "released"))
    remove_abandoned([*tmp_path.iterdir(), tmp_path / "missing"])
    assert [path.name for path in tmp_path.iterdir()] == ["claimed"]
    os.close(claim)


def test_only_regular_files_are_read_and_nothing_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    (tmp_path / "link").symlink_to(path)
    assert read_regular(path) == read_regular(tmp_path / "link") == b"content"
    os.mkfifo(tmp_path / "fifo")
    for other in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            read_regular(other)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    assert not [
        link for link in Path("/proc/self/fd").iterdir() if "fifo" in os.path.realpath(link)
    ]


def test_a_lock_is_waited_for_no_longer_than_asked(tmp_path: Path) -> None:
    held = acquire_lock(tmp_path / "lock")
    started = time.monotonic()
    with (
        pytest.raises(TimeoutError, match="another process holds its lock"),
        file_lock(tmp_path / "lock", timeout_s=0.2),
    ):
        pass
    assert 0.2 <= time.monotonic() - started < 5
    os.close(held)
    with file_lock(tmp_path / "lock", timeout_s=0.2):
        pass
