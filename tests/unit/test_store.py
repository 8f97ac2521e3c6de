import os
from pathlib import Path

import pytest

from app.errors import PackageError
from app.packages.store import desired_versions


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tmp_path


def make(weights: Path, name: str, *versions: str, active: str | None = None) -> Path:
    for version in versions:
        (weights / name / version).mkdir(parents=True)
    if active is not None:
        (weights / name).mkdir(exist_ok=True)
        (weights / name / "ACTIVE").write_text(active, encoding="utf-8")
    return weights / name


def active_folders(weights: Path) -> dict[str, Path]:
    versions = desired_versions(weights)
    return {name: version.folder for name, version in versions.items() if version.folder}


def problems(weights: Path) -> dict[str, PackageError]:
    versions = desired_versions(weights)
    return {name: version.problem for name, version in versions.items() if version.problem}


def test_the_only_version_is_active(weights: Path) -> None:
    folder = make(weights, "pets", "1")
    assert active_folders(weights) == {"pets": folder / "1"}
    assert problems(weights) == {}


@pytest.mark.parametrize("text", ["2", "2\n", " 2\r\n", "\ufeff2\n"])
def test_active_names_the_version(weights: Path, text: str) -> None:
    folder = make(weights, "pets", "1", "2", active=text)
    assert active_folders(weights) == {"pets": folder / "2"}


def test_names_come_in_order(weights: Path) -> None:
    for name in ("b", "c", "a"):
        make(weights, name, "1")
    assert list(desired_versions(weights)) == ["a", "b", "c"]


def test_hidden_folders_and_plain_files_are_ignored(weights: Path) -> None:
    folder = make(weights, "pets", "1", ".2.being-written")
    make(weights, ".trash", "1")
    (weights / "README.md").touch()
    (folder / "notes.txt").touch()
    assert active_folders(weights) == {"pets": folder / "1"}


def test_an_empty_folder_has_no_packages(weights: Path) -> None:
    assert active_folders(weights) == {}


def test_a_fifo_named_active_is_refused_and_not_waited_for(weights: Path) -> None:
    os.mkfifo(make(weights, "pets", "1") / "ACTIVE")
    assert "expected a text file with a version" in str(problems(weights)["pets"])


def test_a_missing_weights_folder_is_named(weights: Path) -> None:
    with pytest.raises(PackageError, match="cannot be read: No such file or directory") as caught:
        desired_versions(weights / "missing")
    assert caught.value.file == str(weights / "missing")


@pytest.mark.parametrize(
    ("name", "versions", "active", "problem"),
    [
        ("pets", ["1", "2"], None, "found the versions 1, 2 and no file ACTIVE; activate one: "),
        ("pets", [".1"], None, "found no version; expected a folder with a manifest.json"),
        ("pets", ["1"], "3", "found '3', expected one of the versions there: 1"),
        ("pets", ["1"], "", "found '', expected one of the versions there: 1"),
        ("pets", ["1"], "../pets/1", "found '../pets/1', expected one of"),
        ("pets", [".1"], ".1", "found '.1', expected one of the versions there: none"),
        ("my pets", ["1"], None, "expected a deploy name: 1 to 64 of"),
    ],
)
def test_a_name_without_an_active_version_is_broken_and_hides_no_other(
    weights: Path, name: str, versions: list[str], active: str | None, problem: str
) -> None:
    make(weights, name, *versions, active=active)
    sound = make(weights, "sound", "1")
    assert active_folders(weights) == {"sound": sound / "1"}
    assert list(problems(weights)) == [name]
    assert problem in problems(weights)[name].problem


def test_an_active_file_that_is_not_text_is_broken(weights: Path) -> None:
    folder = make(weights, "pets", "1")
    (folder / "ACTIVE").write_bytes(b"\xff\xfe1")
    error = problems(weights)["pets"]
    assert error.file == str(folder / "ACTIVE")
    assert error.problem == "expected a text file with a version"
