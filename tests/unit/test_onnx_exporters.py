"""ONNX files of other libraries give the scores that these libraries compute themselves."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.inference.engines.base import EngineError
from app.inference.engines.openvino import OpenVinoEngine, convert
from app.inference.golden.check import measure_golden
from app.inference.local import LocalClassifier
from app.packages.package import load_package
from app.settings import PROJECT_ROOT
from tests.support.models import classifyd, write_labels

CASES = PROJECT_ROOT / "tests/cases/onnx"
PHOTOS = PROJECT_ROOT / "tests/photos"
SIDES = {"sklearn": 8, "sklearn-maps": 8}
NOT_IN_OPENVINO = {"sklearn", "sklearn-maps"}
"""Needs operators of ai.onnx.ml, for the label that is not used."""


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.json")))
def test_served_scores_are_the_librarys_own(tmp_path: Path, name: str) -> None:
    case = json.loads((CASES / f"{name}.json").read_text())
    labels = write_labels(tmp_path / "labels.txt", ["zero", "one", "two", "three"])
    where = ("--labels", labels, "--weights-dir", tmp_path)
    resize = ("--resize", SIDES.get(name, 32), "--resampling", "exact")
    golden = (option for photo in case["scores"] for option in ("--golden", PHOTOS / photo))
    source = ("--onnx", CASES / f"{name}.onnx", *where, *resize, *golden)
    result = classifyd("package", "build", name, "1", *source, *case["options"])
    assert result.exit_code == 0, (result.exception, result.output)
    package = load_package(tmp_path / name / "1")
    assert package.golden is not None
    expected = np.array(list(case["scores"].values()), np.float32)
    assert np.abs(package.golden.scores - expected).max() < 1e-5
    classifier = LocalClassifier(package)
    for photo, scores in case["scores"].items():
        found = classifier.score((PHOTOS / photo).read_bytes())
        assert np.abs(found - scores).max() < 1e-4
    try:
        openvino = OpenVinoEngine(convert(package), "float32", 1)
    except EngineError:
        assert name in NOT_IN_OPENVINO
    else:
        assert measure_golden(package, package.golden, openvino).worst_difference < 1e-4
