"""What ``classifyd train`` says about photos before it trains on them."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from app.training.inspection import Inspected, describe_leaks, inspect_photos, near_duplicates
from app.training.photos import DataError, read_photos
from app.training.split import split_photos
from tests.support.photo_folders import PHOTOS, make_photos

COUNTS = {"coffee": 6, "temple": 6}


def _inspect(folder: Path) -> tuple[list[Inspected], list[str]]:
    photos, _ = read_photos(folder)
    return inspect_photos(folder, photos, lambda work, items: map(work, items))


def _fault(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        _inspect(folder)
    return str(caught.value)


def test_folder_per_class_is_read_in_order_without_what_a_system_left(tmp_path: Path) -> None:
    make_photos(tmp_path, COUNTS)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "coffee" / ".DS_Store").write_bytes(b"")
    (tmp_path / "coffee" / "notes.txt").write_text("from the kitchen")
    photos, remarks = read_photos(tmp_path)
    assert [photo.label for photo in photos] == ["coffee"] * 6 + ["temple"] * 6
    assert [photo.path.suffix for photo in photos][:3] == [".jpg", ".png", ".bmp"]
    assert {photo.held_out for photo in photos} == {None}
    assert len(remarks) == 1
    assert "notes.txt" in remarks[0]


def test_train_and_val_are_honoured(tmp_path: Path) -> None:
    make_photos(tmp_path / "train", COUNTS)
    make_photos(tmp_path / "val", {"coffee": 1, "temple": 2}, skip=6)
    inspected, _ = _inspect(tmp_path)
    decided, _ = split_photos(inspected, near_duplicates(inspected), seed=0)
    assert sum(entry.photo.held_out is True for entry in decided) == 3
    assert len(decided) == 15


def test_train_without_val_is_named(tmp_path: Path) -> None:
    make_photos(tmp_path / "train", COUNTS)
    assert "train/ and val/ go together" in _fault(tmp_path)


def test_class_in_only_one_of_train_and_val_is_named(tmp_path: Path) -> None:
    make_photos(tmp_path / "train", COUNTS)
    make_photos(tmp_path / "val", {"coffee": 1}, skip=6)
    assert "'temple' is in only one of train/ and val/" in _fault(tmp_path)


def test_class_with_few_photos_is_named(tmp_path: Path) -> None:
    make_photos(tmp_path, {"coffee": 6, "temple": 4})
    assert "'temple' has 4 photos, at least 5 are needed" in _fault(tmp_path)


def test_single_class_is_named(tmp_path: Path) -> None:
    make_photos(tmp_path, {"coffee": 6})
    assert "only the class 'coffee'" in _fault(tmp_path)


def test_folder_without_photos_is_named(tmp_path: Path) -> None:
    assert "make one for each class" in _fault(tmp_path)


def test_classes_one_folder_further_down_are_named(tmp_path: Path) -> None:
    make_photos(tmp_path / "pictures", COUNTS)
    assert f"train on {tmp_path / 'pictures'}" in _fault(tmp_path)


def test_nested_folders_are_named(tmp_path: Path) -> None:
    make_photos(tmp_path, COUNTS)
    make_photos(tmp_path / "coffee" / "2024", {"temple": 1}, skip=6)
    assert "coffee/ holds folders of photos (2024)" in _fault(tmp_path)


def test_photos_beside_the_classes_are_named(tmp_path: Path) -> None:
    make_photos(tmp_path, COUNTS)
    shutil.copy(PHOTOS / "rocket.jpg", tmp_path)
    assert "1 photo beside the folders of the classes (rocket.jpg)" in _fault(tmp_path)


@pytest.mark.parametrize("other", ["Coffee", "cof fee", "coffee "])
def test_labels_that_hardly_differ_are_named(tmp_path: Path, other: str) -> None:
    make_photos(tmp_path, {"coffee": 6})
    make_photos(tmp_path / "new", {"temple": 6})
    (tmp_path / "new" / "temple").rename(tmp_path / other)
    (tmp_path / "new").rmdir()
    fault = _fault(tmp_path)
    assert repr(other) in fault
    assert "differ by case or spaces only" in fault or "white space" in fault


def test_photos_that_the_server_would_refuse_are_named_and_left_out(tmp_path: Path) -> None:
    make_photos(tmp_path, COUNTS)
    whole = (tmp_path / "coffee" / "000.jpg").read_bytes()
    (tmp_path / "coffee" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "temple" / "page.jpg").write_bytes(b"<html>")
    Image.new("RGB", (9, 9)).save(tmp_path / "temple" / "tiny.png")
    inspected, remarks = _inspect(tmp_path)
    assert len(inspected) == 12
    said = "\n".join(remarks)
    for part in ("half.jpg", "page.jpg", "tiny.png", "3 photos cannot be read"):
        assert part in said


def test_class_with_few_readable_photos_is_named(tmp_path: Path) -> None:
    make_photos(tmp_path, {"coffee": 6, "temple": 5})
    (tmp_path / "temple" / "000.jpg").write_bytes(b"")
    fault = _fault(tmp_path)
    assert "temple/000.jpg: the file is empty" in fault
    assert "'temple' has 4 photos" in fault


def test_same_photo_in_two_classes_is_named(tmp_path: Path) -> None:
    make_photos(tmp_path, COUNTS)
    shutil.copy(tmp_path / "coffee" / "000.jpg", tmp_path / "temple" / "copy.jpg")
    assert "coffee/000.jpg and temple/copy.jpg are the same photo in two" in _fault(tmp_path)


def test_near_duplicates_across_train_and_val_are_named(tmp_path: Path) -> None:
    make_photos(tmp_path / "train", COUNTS)
    make_photos(tmp_path / "val", {"coffee": 2, "temple": 2}, skip=6)
    original = Image.open(tmp_path / "train" / "coffee" / "003.jpg")
    original.resize((64, 64)).save(tmp_path / "val" / "coffee" / "again.jpg", quality=50)
    inspected, _ = _inspect(tmp_path)
    pairs = near_duplicates(inspected)
    said = describe_leaks(tmp_path, inspected, pairs)
    assert len(pairs) == 1
    assert "train/coffee/003.jpg and val/coffee/again.jpg" in said[0]
    assert "1 pair of near-duplicates" in said[1]


def test_near_duplicates_stay_on_one_side_of_an_automatic_split(tmp_path: Path) -> None:
    make_photos(tmp_path, {"coffee": 12, "temple": 12})
    for number in range(0, 12, 3):
        picture = Image.open(tmp_path / "coffee" / f"{number:03}.jpg")
        picture.save(tmp_path / "coffee" / f"again{number}.png")
    inspected, _ = _inspect(tmp_path)
    pairs = near_duplicates(inspected)
    # Two tiles of plain sky are nearly the same too.
    assert len(pairs) >= 4
    for seed in range(5):
        decided, remarks = split_photos(inspected, pairs, seed)
        assert describe_leaks(tmp_path, decided, pairs) == remarks == []
        assert {entry.photo.label for entry in decided if entry.photo.held_out} == set(COUNTS)


def test_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    make_photos(tmp_path, {"coffee": 12, "temple": 12})
    inspected, _ = _inspect(tmp_path)
    splits = [
        [entry.photo.path for entry in split_photos(inspected, [], seed)[0] if entry.photo.held_out]
        for seed in (0, 0, 1)
    ]
    assert splits[0] == splits[1] != splits[2]
    assert 4 <= len(splits[0]) <= 6
