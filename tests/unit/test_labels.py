"""The labels of a package, from the files and folders that training code leaves."""

import json
from pathlib import Path

import pytest

from app.errors import OperatorError, PackageError
from app.packages.build.foreign import import_extra
from app.packages.build.labels import read_label_source
from app.packages.package import read_labels


@pytest.mark.parametrize(
    ("document", "labels"),
    [
        (["猫", "狗"], ["猫", "狗"]),
        ({"0": "cat", "1": "dog"}, ["cat", "dog"]),
        ({"dog": 1, "cat": 0}, ["cat", "dog"]),
        ({"1": 0, "10": 1, "2": 2}, ["1", "10", "2"]),
        ({"1": "10", "0": "2"}, ["2", "10"]),
        (["0", "1"], ["0", "1"]),
    ],
)
def test_json_labels_are_read_by_the_type_of_their_values(
    tmp_path: Path, document: object, labels: list[str]
) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_label_source(path) == labels


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('["cat", "dog\\nwolf"]', r"class 1: found a line break in 'dog\\nwolf'"),
        ('{"cat": 0, "dog": 0}', "no label has the index 1"),
        ('{"cat": true, "dog": false}', "no label has the index 0"),
        ('{"0": "cat", "0": "dog"}', "duplicate key '0'"),
        ('{"0": ["n02", "cat"]}', "expected a list of texts"),
        ("[]", "expected a list of texts"),
        ('["error_code"]', "class 0: found the text error_code"),
    ],
)
def test_json_labels_that_cannot_be_right_are_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OperatorError, match=told):
        read_label_source(path)


def test_builder_and_server_split_lines_in_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    labels = ["a\u2028b", "c\u0085d", "e\x0cf", "g"]
    for ending in ("\n", "\r\n"):
        path.write_bytes(ending.join([*labels, ""]).encode())
        assert read_label_source(path) == labels
        assert list(read_labels(path, 4)) == labels
    path.write_bytes(b"a\rb\rc")
    with pytest.raises(OperatorError, match="found a line break"):
        read_label_source(path)
    with pytest.raises(PackageError, match="found a line break"):
        read_labels(path, 3)


@pytest.mark.parametrize(
    "text", ["0,cat\n1,dog", "1: cat\n2: dog\n", "0 cat\n1 dog\n2 bird", "id;name\n0;cat\n1;dog"]
)
def test_a_numbered_list_is_a_question(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OperatorError, match="every line begins with its number, such as '"):
        read_label_source(path)


@pytest.mark.parametrize("text", ["3 doors\n5 doors", "0\n1", "7-eleven\n8-bit", "1 euro\neuro"])
def test_a_label_may_begin_with_a_number(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text, encoding="utf-8")
    assert read_label_source(path) == text.splitlines()


def test_folders_in_another_order_for_timm_are_a_question(tmp_path: Path) -> None:
    for name in ("10", "2", "1"):
        (tmp_path / name).mkdir()
    with pytest.raises(OperatorError, match=r"class 1 is '10' for torchvision, .* '2' for timm"):
        read_label_source(tmp_path)
    assert read_label_source(tmp_path, "text") == ["1", "10", "2"]
    assert read_label_source(tmp_path, "natural") == ["1", "2", "10"]


def test_the_natural_order_is_that_of_timm(tmp_path: Path) -> None:
    natural_key = import_extra("timm.utils", "this test").natural_key
    names = ["b10", "B2", "a", "1x2", "1x10", "é", "Z"]
    for name in names:
        (tmp_path / name).mkdir()
    assert read_label_source(tmp_path, "natural") == sorted(names, key=natural_key)
