import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import PackageError
from app.packages.manifest import MANIFEST_FILE
from app.packages.package import load_package, read_labels
from app.packages.staging import LOCK_FILE
from app.packages.write import LABELS_FILE, MODEL_FILE, PackageDraft, write_package

MODEL = b"not opened here"
LABELS = ["goldfish", "金鱼", "crane", "crane"]


def draft(**changes: Any) -> PackageDraft:
    values: dict[str, Any] = {
        "name": "pets",
        "version": "1",
        "input": {"height": 8, "width": 8, "channels": 3, "layout": "NCHW", "dtype": "float32"},
        "preprocess": [
            {"step": "color", "order": "RGB"},
            {"step": "center_crop", "height": 8, "width": 8, "pad": [0, 0, 0]},
        ],
        "output": {"kind": "logits", "task": "multi_label", "classes": 4},
        "labels": LABELS,
        "save_model": lambda path: path.write_bytes(MODEL),
    }
    return PackageDraft(**{**values, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_package(tmp_path / "weights", draft()).folder


def rewrite_manifest(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite_labels(folder: Path, raw: bytes) -> None:
    (folder / LABELS_FILE).write_bytes(raw)
    sha256 = hashlib.sha256(raw).hexdigest()
    rewrite_manifest(folder, labels={"file": LABELS_FILE, "sha256": sha256})


def failure(folder: Path) -> PackageError:
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    return caught.value


def test_a_valid_package_is_loaded(folder: Path) -> None:
    package = load_package(folder)
    assert package.folder == folder
    assert package.manifest.name == "pets"
    assert package.manifest.output.task == "multi_label"
    assert package.labels == tuple(LABELS)
    assert package.model_path.read_bytes() == MODEL
    assert package.preprocessor(np.zeros((20, 30, 3), np.uint8)).shape == (3, 8, 8)
    manifest_bytes = (folder / MANIFEST_FILE).read_bytes()
    assert package.digest == hashlib.sha256(manifest_bytes).hexdigest()


def test_a_relative_folder_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load_package(Path()).manifest.name == "pets"


def test_a_folder_without_a_manifest_is_named(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()
    error = failure(folder)
    assert error.file == str(folder / MANIFEST_FILE)
    assert error.problem == "cannot be read: No such file or directory"


@pytest.mark.parametrize(("field", "target"), [("version", "pets/2"), ("name", "cats/1")])
def test_a_package_in_a_folder_of_another_name_is_refused(
    folder: Path, field: str, target: str
) -> None:
    moved = folder.parent.parent / target
    moved.parent.mkdir(exist_ok=True)
    shutil.move(folder, moved)
    error = failure(moved)
    assert error.field == field
    assert "the name of its folder" in error.problem


@pytest.mark.parametrize(("field", "file"), [("model", MODEL_FILE), ("labels", LABELS_FILE)])
def test_a_missing_file_is_named(folder: Path, field: str, file: str) -> None:
    (folder / file).unlink()
    error = failure(folder)
    assert error.field == f"{field}.file"
    assert error.problem.startswith(f"{file} cannot be read: No such file or directory; expected")


def test_a_folder_in_place_of_a_file_is_named(folder: Path) -> None:
    (folder / MODEL_FILE).unlink()
    (folder / MODEL_FILE).mkdir()
    assert "model.pt cannot be read: Is a directory" in failure(folder).problem


@pytest.mark.parametrize("file", [MANIFEST_FILE, MODEL_FILE, LABELS_FILE])
def test_a_fifo_in_place_of_a_file_is_refused_and_not_waited_for(folder: Path, file: str) -> None:
    (folder / file).unlink()
    os.mkfifo(folder / file)
    assert "cannot be read: it is not a regular file" in failure(folder).problem


@pytest.mark.parametrize(("field", "file"), [("model", MODEL_FILE), ("labels", LABELS_FILE)])
def test_a_changed_file_is_refused(folder: Path, field: str, file: str) -> None:
    with (folder / file).open("ab") as stream:
        stream.write(b"x")
    error = failure(folder)
    assert error.file == str(folder / file)
    assert error.problem.startswith("found SHA-256 ")
    assert error.problem.endswith(f"({field}.sha256)")


@pytest.mark.parametrize(
    "raw",
    [
        b"a\nb\n",
        b"a\nb",
        b"a\r\nb\r\n",
        b"a\r\nb",
        b"\xef\xbb\xbfa\r\nb\r\n",
    ],
    ids=["newline", "no-last-newline", "windows", "windows-no-last", "byte-order-mark"],
)
def test_labels_may_come_from_any_editor(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "labels.txt").write_bytes(raw)
    assert read_labels(tmp_path / "labels.txt", 2) == ("a", "b")


def test_only_a_newline_ends_a_label(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\u2028b\nc\x0bd\n", encoding="utf-8")
    assert read_labels(tmp_path / "labels.txt", 2) == ("a\u2028b", "c\x0bd")


@pytest.mark.parametrize(
    ("raw", "field", "problem"),
    [
        (b"", "line 1", "found an empty line"),
        (b"a\n\nb\nc\nd\n", "line 2", "found an empty line"),
        (b"a\nb\nc\nd\n\n", "line 5", "found an empty line"),
        (b"a\nb\n \t\nd\n", "line 3", "found an empty line"),
        (b"a\n b\nc\nd\n", "line 2", "found white space around the label"),
        (b"a\nb\r\r\nc\nd\n", "line 2", "found white space around the label"),
        (b"a\nb\nc\nmy_error_code\n", "line 4", "found the text error_code"),
        (b"a\nb\nc\n", "", "found 3 labels, expected 4 (output.classes)"),
        (b"a\nb\nc\nd\ne\n", "", "found 5 labels, expected 4 (output.classes)"),
        ("é".encode("latin-1"), "", "expected UTF-8, byte 0 is not"),
        ("a\nb".encode("utf-16"), "", "expected UTF-8, byte 0 is not"),
    ],
)
def test_labels_that_are_not_clean_lines_are_refused(
    folder: Path, raw: bytes, field: str, problem: str
) -> None:
    rewrite_labels(folder, raw)
    error = failure(folder)
    assert (error.file, error.field) == (str(folder / LABELS_FILE), field)
    assert error.problem.startswith(problem)


def test_a_written_version_is_never_overwritten(folder: Path) -> None:
    before = (folder / MANIFEST_FILE).read_bytes()
    with pytest.raises(PackageError, match="exists already; choose another version"):
        write_package(folder.parent.parent, draft(labels=["a", "b", "c", "d"]))
    assert (folder / MANIFEST_FILE).read_bytes() == before


@pytest.mark.parametrize("changes", [{"labels": ["one"]}, {"preprocess": []}, {"name": "a b"}])
def test_an_invalid_draft_leaves_nothing_behind(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(PackageError):
        write_package(tmp_path, draft(**changes))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [LOCK_FILE]
    assert list(tmp_path.glob("*/*")) == []


def test_a_version_that_another_process_finished_first_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "pets" / "1"

    def save_late(path: Path) -> None:
        path.write_bytes(MODEL)
        target.mkdir(parents=True)
        (target / "theirs").touch()

    with pytest.raises(PackageError, match="exists already"):
        write_package(tmp_path, draft(save_model=save_late))
    assert [path.name for path in target.parent.iterdir()] == ["1"]
    assert [path.name for path in target.iterdir()] == ["theirs"]


def test_a_package_is_readable_for_the_account_of_the_service(folder: Path) -> None:
    assert folder.stat().st_mode & 0o055 == 0o055
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in folder.iterdir())
