"""``package build --golden-scores``: results of the training code, which a package must give."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from app.errors import OperatorError
from app.inference.golden.diagnosis import find_unnoticed, likely_cause
from app.inference.tuning.loader import load_exact
from app.packages.build.golden_scores import read_golden_scores
from app.packages.package import Golden, Package, load_package
from app.settings import PROJECT_ROOT
from tests.support.models import (
    SHARP_LABELS,
    SIDE,
    build_sharp_package,
    classifyd,
    script,
    sharp,
    write_labels,
)

PHOTOS = sorted((PROJECT_ROOT / "tests/photos").glob("*.jpg"))[:6]
CROP = ("--resize-shortest", 80, "--crop", SIDE)
LETTERBOX = ("--letterbox", SIDE)


def train_scores() -> list[list[float]]:
    """What training code computes: Pillow's resize, a centre crop and the eager module."""
    rows = []
    for path in PHOTOS:
        picture = Image.open(path).convert("RGB")
        ratio = 80 / min(picture.size)
        picture = picture.resize((int(picture.width * ratio), int(picture.height * ratio)), 2)
        left, top = round((picture.width - SIDE) / 2), round((picture.height - SIDE) / 2)
        pixels = np.asarray(picture.crop((left, top, left + SIDE, top + SIDE)), np.float32)
        values = torch.from_numpy(pixels / 255).permute(2, 0, 1)[None]
        with torch.inference_mode():
            rows.append([float(score) for score in sharp()(values).softmax(1)[0]])
    return rows


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    rows = zip(PHOTOS, train_scores(), strict=True)
    return write_csv(tmp_path / "s.csv", ["file", *SHARP_LABELS], [[p, *row] for p, row in rows])


def build(tmp_path: Path, *arguments: object) -> Result:
    model = script(sharp(), tmp_path / "model.pt")
    labels = write_labels(tmp_path / "labels.txt", SHARP_LABELS)
    where = ("--labels", labels, "--weights-dir", tmp_path / "weights", "--torchscript", model)
    return classifyd("package", "build", "sharp", "1", *where, *arguments)


def test_scores_of_the_training_become_the_golden_ones(tmp_path: Path, scores: Path) -> None:
    result = build(tmp_path, *CROP, "--golden-scores", scores, "--json")
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["verified_against_training"] == "scores"
    golden = load_package(tmp_path / "weights/sharp/1").golden
    assert golden is not None
    np.testing.assert_allclose(golden.scores, train_scores(), atol=1e-6)


def test_a_letterbox_in_place_of_a_crop_is_refused_with_its_cause(
    tmp_path: Path, scores: Path
) -> None:
    alone = build(tmp_path, *LETTERBOX)
    assert "not verified: whether preprocessing" in alone.output
    classifyd("package", "remove", "sharp", "--all", "--weights-dir", tmp_path / "weights")
    text = str(build(tmp_path, *LETTERBOX, "--golden-scores", scores).exception)
    assert "same top class on " in text
    assert "likely cause: the resize or crop: the scores fit the shortest side 80" in text
    assert not (tmp_path / "weights/sharp").exists()


def test_top_classes_are_compared_too(tmp_path: Path) -> None:
    tops = [
        (path, row.index(max(row)), max(row))
        for path, row in zip(PHOTOS, train_scores(), strict=True)
    ]
    rows = [{"file": str(p), "label": SHARP_LABELS[top], "score": score} for p, top, score in tops]
    path = tmp_path / "tops.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    assert (
        "not verified: the exact scores" in build(tmp_path, *CROP, "--golden-scores", path).output
    )
    classifyd("package", "remove", "sharp", "--all", "--weights-dir", tmp_path / "weights")
    rows[0]["label"] = next(label for label in SHARP_LABELS if label != rows[0]["label"])
    path.write_text(json.dumps(rows), encoding="utf-8")
    text = str(build(tmp_path, *CROP, "--golden-scores", path).exception)
    assert text.startswith(f"1 of 6 golden samples wrong; {PHOTOS[0].name}: expected ")


@pytest.mark.parametrize(
    ("header", "row", "problem"),
    [
        (["photo", "label"], ["a.jpg", "zero"], "expected file as the first column"),
        (["file", "label"], ["a.jpg", "zero"], "row 1: a.jpg cannot be read"),
        (["file", "label"], [PHOTOS[0], "six"], "row 1: 'six' is none of the labels"),
        (["file", "zero", "one"], [PHOTOS[0], "1", "0"], "no score for 'two'"),
        (["file", *SHARP_LABELS], [PHOTOS[0], *"12345"], "found '2', expected a score from 0 to 1"),
        (["file", "label"], [PHOTOS[0]], "row 1: expected 2 columns"),
    ],
)
def test_a_wrong_row_is_named(
    tmp_path: Path, header: list[str], row: list[Any], problem: str
) -> None:
    path = write_csv(tmp_path / "s.csv", header, [row])
    with pytest.raises(OperatorError, match=problem):
        read_golden_scores(path, SHARP_LABELS)


def test_an_existing_version_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "weights/sharp/1").mkdir(parents=True)
    labels = write_labels(tmp_path / "labels.txt", SHARP_LABELS)
    result = classifyd(
        *("package", "build", "sharp", "1", "--labels", labels, "--resize", SIDE),
        *("--weights-dir", tmp_path / "weights", "--factory", "no.such:module"),
    )
    assert "exists already" in str(result.exception)


def changed(package: Package, expected: np.ndarray[Any, Any]) -> tuple[Package, Golden]:
    assert package.golden is not None
    golden = package.golden
    return package, Golden(golden.tolerance, golden.images, golden.top, expected)


def test_nearly_tied_scores_are_not_blamed_on_the_order_of_the_classes(tmp_path: Path) -> None:
    folder = build_sharp_package(tmp_path)
    package = load_package(folder)
    assert package.golden is not None
    engine = load_exact(package).engine
    order = np.argsort(package.golden.scores, axis=1)
    swapped = package.golden.scores.copy()
    # The two lowest scores of each image, which are far below 0.05.
    for row, (a, b) in enumerate(order[:, :2]):
        swapped[row, [a, b]] = swapped[row, [b, a]] + np.array([0.007, -0.001], np.float32)
    assert "the order of the classes" not in likely_cause(*changed(package, swapped), engine)


def test_mistakes_of_labels_and_output_are_listed_where_no_sample_shows_them(
    tmp_path: Path,
) -> None:
    package = load_package(build_sharp_package(tmp_path))
    engine = load_exact(package).engine
    assert not [text for text in find_unnoticed(package, engine) if "labels" in text]
    assert not [text for text in find_unnoticed(package, engine) if "output" in text]
    assert package.golden is not None
    few = Golden(1.0, package.golden.images, (("zero",),) * 3, package.golden.scores)
    found = "; ".join(find_unnoticed(replace(package, golden=few), engine))
    assert (
        "order of the labels (4 that no sample has among its best: one, two, three, ...)" in found
    )
    assert "kind of the output (logits, multi_label)" in found
