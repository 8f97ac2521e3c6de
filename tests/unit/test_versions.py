"""Installing, activating, rolling back and removing, without a server."""

import json
import os
from pathlib import Path

import pytest

from app.errors import PackageError
from app.packages.changes import activate, remove_name, remove_version, roll_back, undo
from app.packages.staging import LOCK_FILE, staged_folder
from app.packages.store import ACTIVE_FILE, active_version, desired_version, previous_versions
from app.system.files import claim_folder
from tests.support.packages import build_colour_package

LABELS = ["red", "green", "blue"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for version in ("1", "2", "3"):
        build_colour_package(tmp_path, "pets", LABELS, version)
    return tmp_path


def active(weights: Path) -> str:
    return active_version(weights / "pets").name


def test_a_second_version_leaves_the_first_one_active(weights: Path) -> None:
    assert active(weights) == "1"
    assert previous_versions(weights / "pets") == []


def test_rollback_goes_back_one_version_at_a_time(weights: Path) -> None:
    activate(weights, "pets", "2")
    activate(weights, "pets", "3")
    assert [roll_back(weights, "pets").folder.name for _ in range(2)] == ["2", "1"]
    assert active(weights) == "1"
    with pytest.raises(PackageError, match="no earlier version is recorded"):
        roll_back(weights, "pets")
    assert active(weights) == "1"


def test_rollback_skips_a_removed_version(weights: Path) -> None:
    activate(weights, "pets", "2")
    activate(weights, "pets", "3")
    remove_version(weights, "pets", "2")
    assert roll_back(weights, "pets").folder.name == "1"


def test_activating_back_and_forth_records_each_version_once(weights: Path) -> None:
    for _ in range(20):
        activate(weights, "pets", "2")
        activate(weights, "pets", "1")
    assert (weights / "pets" / ACTIVE_FILE).read_text() == "1\n2\n"


def test_a_version_written_by_hand_becomes_the_previous_one(weights: Path) -> None:
    (weights / "pets" / ACTIVE_FILE).write_text("2")
    activate(weights, "pets", "3")
    assert previous_versions(weights / "pets") == ["2"]


def test_a_name_without_its_active_version_can_be_repaired(weights: Path) -> None:
    (weights / "pets" / ACTIVE_FILE).write_text("9")
    activate(weights, "pets", "3")
    assert active(weights) == "3"


@pytest.mark.parametrize(
    ("name", "version", "told"),
    [
        ("cats", "1", "found no package 'cats'; there are: pets"),
        ("pets", "9", "found no version '9'; there are: 1, 2, 3"),
        ("pets", "../1", "found no version '../1'"),
        ("..", "1", r"found no package '\.\.'"),
    ],
)
def test_an_error_names_the_existing_packages_or_versions(
    weights: Path, name: str, version: str, told: str
) -> None:
    for change in (activate, remove_version):
        with pytest.raises(PackageError, match=told):
            change(weights, name, version)


def test_a_damaged_version_is_never_activated(weights: Path) -> None:
    (weights / "pets" / "2" / "labels.txt").write_text("red\n")
    with pytest.raises(PackageError, match="SHA-256"):
        activate(weights, "pets", "2")
    assert active(weights) == "1"


def test_the_active_version_is_never_removed(weights: Path) -> None:
    with pytest.raises(PackageError, match="is the active version"):
        remove_version(weights, "pets", "1")
    remove_version(weights, "pets", "2")
    assert sorted(path.name for path in (weights / "pets").iterdir()) == ["1", "3", ACTIVE_FILE]


def test_a_whole_name_is_removed(weights: Path) -> None:
    remove_name(weights, "pets")
    assert [path.name for path in weights.iterdir()] == [LOCK_FILE]


def test_each_activation_has_another_generation_even_of_the_same_version(weights: Path) -> None:
    generations = {activate(weights, "pets", "1").generation for _ in range(20)}
    assert len(generations) == 20
    assert desired_version(weights / "pets").generation in generations


def test_a_replaced_manifest_is_another_generation(weights: Path) -> None:
    before = desired_version(weights / "pets").generation
    path = weights / "pets" / "1" / "manifest.json"
    content = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps(content))
    assert desired_version(weights / "pets").generation != before


def test_an_activation_is_undone_unless_another_came_after(weights: Path) -> None:
    activate(weights, "pets", "2")
    third = activate(weights, "pets", "3")
    assert undo(weights, third)
    assert (weights / "pets" / ACTIVE_FILE).read_text() == "2\n1\n"
    third = activate(weights, "pets", "3")
    activate(weights, "pets", "1")
    assert not undo(weights, third)
    assert active(weights) == "1"


def test_staging_of_killed_processes_is_deleted_and_of_live_ones_kept(
    weights: Path,
) -> None:
    dead, live = weights / ".staging-dead", weights / ".staging-live"
    for folder in (dead, live):
        (folder / "pets" / "4").mkdir(parents=True)
    descriptor = claim_folder(live)
    try:
        activate(weights, "pets", "2")
    finally:
        os.close(descriptor)
    assert not dead.exists()
    assert live.exists()


def test_a_failed_first_install_leaves_no_name_behind(tmp_path: Path) -> None:
    def fail_midway() -> None:
        with staged_folder(tmp_path / "pets" / "1") as folder:
            (folder / "model.pt").touch()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail_midway()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


def test_errors_of_the_operating_system_are_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(PackageError, match="cannot be changed: .*Not a directory|File exists"),
        staged_folder(tmp_path / "file" / "pets" / "1"),
    ):
        pass
