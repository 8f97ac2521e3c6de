"""``classifyd train`` from real photos to a served package, also when it is killed."""

import base64
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from app.inference.local import LocalClassifier
from app.packages.package import load_package
from app.settings import PROJECT_ROOT
from tests.support.commands import run_classifyd
from tests.support.photo_folders import make_photos
from tests.support.server import Server

pytestmark = pytest.mark.weights

COUNTS = {"coffee": 8, "sky": 8, "temple": 8}
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), COUNTS)


def _arguments(photos: Path, place: Path, *more: str) -> list[str]:
    folders = ["--weights-dir", place / "weights", "--state-dir", place / "var"]
    report = ["--report", place / "report.html"]
    return [*map(str, ["train", photos, "--name", "kitchen", *folders, *report]), *more]


def _digest(place: Path, version: str = "1") -> str:
    return load_package(place / "weights" / "kitchen" / version).digest


@pytest.fixture(scope="module")
def tuned(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training with two epochs."""
    place = tmp_path_factory.mktemp("tuned")
    run_classifyd(*_arguments(photos, place, "--finetune", "--epochs", "2"))
    return place


def test_package_is_documented_and_has_golden_samples(tuned: Path) -> None:
    package = load_package(tuned / "weights" / "kitchen" / "1")
    training = package.manifest.training
    assert training is not None
    assert package.labels == ("coffee", "sky", "temple")
    held_out = sum(count["held_out"] for count in training["photos"].values())
    assert held_out == training["held_out"]["photos"] >= 3
    assert sum(count["train"] for count in training["photos"].values()) == 24 - held_out
    low, high = training["held_out"]["top1_interval_95"]
    assert low <= training["held_out"]["top1"] <= high
    assert training["settings"]["seed"] == 0
    assert package.golden is not None
    assert len(package.golden.images) >= 2


def test_report_has_the_learning_curve_and_both_calibration_errors(tuned: Path) -> None:
    document = json.loads((tuned / "report.json").read_text())
    assert document["training"]["largest_score_difference"] < 0.005
    assert [point["photos"] for point in document["training"]["learning_curve"]][0] == 5
    text = (tuned / "report.html").read_text()
    for part in ("Learning curve", "Confusion matrix", "after temperature scaling", "Fine-tuning."):
        assert part in text


def test_served_scores_are_those_of_the_package(photos: Path, tuned: Path) -> None:
    data = (photos / "coffee" / "000.jpg").read_bytes()
    with Server(tuned / "weights", tuned / "var") as server:
        body = json.dumps({"image": base64.b64encode(data).decode()}).encode()
        answer = server.request("POST", "/kitchen/ImageClassification", body)
    served: list[dict[str, Any]] = json.loads(answer.body)["results"]
    own = LocalClassifier(load_package(tuned / "weights" / "kitchen" / "1")).classify(data, 3)
    assert served[0]["name"] == "coffee"
    for entry, expected in zip(served, own, strict=True):
        assert entry["name"] == expected["name"]
        assert entry["score"] == pytest.approx(expected["score"], abs=0.005)


@pytest.mark.parametrize("stored", ["features-*/*.npz", "plan-*.json", "finetune-*.pt"])
def test_killed_training_goes_on_to_the_same_digest(
    photos: Path, tuned: Path, tmp_path: Path, stored: str
) -> None:
    arguments = _arguments(photos, tmp_path, "--finetune", "--epochs", "2")
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=PROJECT_ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + TIMEOUT_S
    while not list((tmp_path / "var" / "training" / "kitchen").glob(stored)):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "weights" / "kitchen").exists()
    run_classifyd(*arguments)
    assert _digest(tmp_path) == _digest(tuned)


def test_second_training_takes_the_next_version_or_replaces_the_latest(
    photos: Path, tmp_path: Path
) -> None:
    arguments = _arguments(photos, tmp_path)
    run_classifyd(*arguments)
    first = _digest(tmp_path)
    said = run_classifyd(*arguments, "--seed", "1").stdout
    assert "classifyd package activate kitchen 2" in said
    second = _digest(tmp_path, "2")
    run_classifyd(*arguments, "--replace")
    assert _digest(tmp_path) == first
    assert _digest(tmp_path, "2") != second
    assert len(list((tmp_path / "weights" / "kitchen").glob("[0-9]*"))) == 2


def test_training_without_the_extra_says_what_to_install(photos: Path, tmp_path: Path) -> None:
    hide = "import sys; sys.modules['sklearn'] = None; from app.cli.main import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", hide, *_arguments(photos, tmp_path)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    assert ended.stderr.count("\n") == 1
    assert "pip install 'classifyd[train]'" in ended.stderr


def test_faults_of_the_photos_end_the_command_with_each_named(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"coffee": 6, "temple": 3})
    ended = run_classifyd(*_arguments(photos, tmp_path), status=3)
    assert "'temple' has 3 photos, at least 5 are needed" in ended.stderr
    assert not (tmp_path / "weights").exists()
