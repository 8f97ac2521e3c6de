"""A package's golden samples: what is tolerated, what is refused, and which cause is named."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from app.errors import PackageError
from app.inference.classifier import load_classifier
from app.inference.queue import InferenceQueue
from app.inference.tuning.comparison import select_engine
from app.inference.tuning.loader import load_exact
from app.inference.tuning.selection import EngineRequirements
from app.packages.package import load_package
from tests.support.models import SHARP_LABELS as LABELS
from tests.support.models import SIDE, build_sharp_package, classifyd, sharp
from tests.support.packages import build_colour_package, build_lying_package
from tests.support.server import Server

Manifest = dict[str, Any]
RESIZE = 1
AUTO = EngineRequirements("auto", "float32", "cpu", 2, 0.001)


def change(folder: Path, mistake: Callable[[Manifest], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    mistake(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def load(folder: Path) -> float | None:
    queue = InferenceQueue(1)
    try:
        return load_classifier(load_package(folder), load_exact, queue).worst_difference
    finally:
        queue.close()


def swap_colours(manifest: Manifest) -> None:
    manifest["preprocess"][0]["order"] = "BGR"


def forget_mean(manifest: Manifest) -> None:
    manifest["preprocess"].pop()


def scale_to_minus_one(manifest: Manifest) -> None:
    manifest["preprocess"][3:] = [{"step": "scale", "multiply": 1 / 127.5, "add": -1}]


def filter_bicubic(manifest: Manifest) -> None:
    manifest["preprocess"][RESIZE]["filter"] = "bicubic"


def forget_antialias(manifest: Manifest) -> None:
    manifest["preprocess"][RESIZE]["antialias"] = False


def resize_less(manifest: Manifest) -> None:
    manifest["preprocess"][RESIZE]["size"] = SIDE


def squash(manifest: Manifest) -> None:
    resize = manifest["preprocess"][RESIZE]
    manifest["preprocess"][RESIZE : RESIZE + 2] = [
        {key: value for key, value in resize.items() if key != "size"}
        | {"mode": "exact", "height": SIDE, "width": SIDE}
    ]


def call_probabilities(manifest: Manifest) -> None:
    manifest["output"]["task"] = "multi_label"


MISTAKES = [
    (swap_colours, "likely cause: the colour order: the scores fit RGB"),
    (forget_mean, "likely cause: the mean and std: the scores fit ImageNet's mean and std"),
    (scale_to_minus_one, "likely cause: the mean and std: the scores fit ImageNet's mean and std"),
    (filter_bicubic, "likely cause: the resize filter: the scores fit bilinear with antialiasing"),
    (forget_antialias, "likely cause: the resize filter: the scores fit bilinear with antialias"),
    (resize_less, "likely cause: the resize or crop: the scores fit the shortest side 80"),
    (squash, "likely cause: the resize or crop: the scores fit the shortest side 80"),
    (call_probabilities, "likely cause: output: the scores fit kind logits and task single_label"),
]


def test_a_right_package_is_served_with_a_small_difference(tmp_path: Path) -> None:
    difference = load(build_sharp_package(tmp_path))
    assert difference is not None
    assert difference <= 0.005


@pytest.mark.parametrize(("mistake", "cause"), MISTAKES, ids=lambda v: getattr(v, "__name__", ""))
def test_a_mistake_is_refused_with_its_cause(
    tmp_path: Path, mistake: Callable[[Manifest], object], cause: str
) -> None:
    folder = build_sharp_package(tmp_path)
    change(folder, mistake)
    with pytest.raises(PackageError) as raised:
        load(folder)
    assert cause in str(raised.value)


def test_a_label_file_in_another_order_is_refused(tmp_path: Path) -> None:
    folder = build_sharp_package(tmp_path)
    labels = folder / "labels.txt"
    labels.write_text("\n".join(reversed(LABELS)), encoding="utf-8")
    digest = sha256(labels.read_bytes()).hexdigest()
    change(folder, lambda manifest: manifest["labels"].update(sha256=digest))
    with pytest.raises(PackageError, match="likely cause: the label file is for another model"):
        load(folder)


def test_classes_in_another_order_are_named(tmp_path: Path) -> None:
    folder = build_sharp_package(tmp_path)
    model = sharp()
    order = torch.tensor([4, 3, 2, 1, 0])
    with torch.no_grad():
        model.head.weight.copy_(model.head.weight[order])
        model.head.bias.copy_(model.head.bias[order])
    replace_model(folder, model)
    with pytest.raises(PackageError, match="likely cause: the order of the classes"):
        load(folder)


def test_other_weights_are_not_blamed_on_the_preprocessing(tmp_path: Path) -> None:
    folder = build_sharp_package(tmp_path)
    model = sharp()
    torch.manual_seed(99)
    with torch.no_grad():
        torch.nn.init.normal_(model.head.weight)
    replace_model(folder, model)
    with pytest.raises(PackageError, match="the model file or the engine's precision"):
        load(folder)


def replace_model(folder: Path, model: torch.nn.Module) -> None:
    torch.jit.script(model).save(str(folder / "model.pt"))
    digest = sha256((folder / "model.pt").read_bytes()).hexdigest()
    change(folder, lambda manifest: manifest["model"].update(sha256=digest))


def test_scores_of_the_wrong_length_are_refused(tmp_path: Path) -> None:
    folder = build_sharp_package(tmp_path)
    (folder / "golden.f32").write_bytes(b"\0" * 8)
    digest = sha256(b"\0" * 8).hexdigest()
    change(folder, lambda manifest: manifest["golden"]["scores"].update(sha256=digest))
    with pytest.raises(PackageError, match="expected 60: 3 images x 5 classes x 4 bytes"):
        load_package(folder)


def test_a_changed_golden_image_is_refused(tmp_path: Path) -> None:
    folder = build_sharp_package(tmp_path)
    (folder / "golden-1.jpg").write_bytes(b"other")
    with pytest.raises(PackageError, match=r"golden-1\.jpg: found SHA-256"):
        load_package(folder)


def test_a_package_without_golden_samples_says_so(tmp_path: Path) -> None:
    folder = build_colour_package(tmp_path, "colours", ["red", "green", "blue"])
    result = classifyd("package", "verify", folder)
    assert result.exit_code == 0
    assert "no golden samples" in result.output


def test_verify_prints_the_worst_difference_as_json(tmp_path: Path) -> None:
    result = classifyd("package", "verify", build_sharp_package(tmp_path), "--json")
    verified = json.loads(result.stdout)
    assert verified["ok"]
    assert 0 < verified["worst_difference"] <= verified["tolerance"] == 0.005
    assert verified["golden_samples"] == 3


def test_a_name_off_its_golden_samples_is_not_served_and_readyz_says_why(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    build_sharp_package(weights, "right")
    change(build_sharp_package(weights, "wrong"), swap_colours)
    with Server(weights, tmp_path) as server:
        answer = server.request("GET", "/readyz")
        refused = server.classify("wrong", {"image": "abcd"})
    assert answer.status == 503
    assert "the colour order" in answer.json["reasons"]["wrong"]
    assert 0 <= answer.json["serving"]["right"]["worst_difference"] <= 0.005
    assert refused.code == 336100


@pytest.mark.parametrize(
    ("ending", "task", "problem"),
    [
        ("none", "single_label", "the scores of an image sum to"),
        ("none", "multi_label", ""),
        ("softmax", "single_label", ""),
    ],
)
def test_declared_probabilities_that_are_none_are_refused_without_golden_samples_too(
    tmp_path: Path, ending: str, task: str, problem: str
) -> None:
    folder = build_lying_package(tmp_path, "liar", ending, task)
    if not problem:
        assert load(folder) is None
        return
    with pytest.raises(PackageError, match=f"output.kind: .* declared as probabilities.*{problem}"):
        load(folder)
    with pytest.raises(PackageError, match=problem):
        select_engine(load_package(folder), AUTO, tmp_path, lambda _: None)


def test_golden_samples_of_logits_that_are_called_probabilities_are_refused(tmp_path: Path) -> None:
    folder = build_sharp_package(tmp_path)
    change(folder, lambda manifest: manifest["output"].update(kind="probabilities"))
    with pytest.raises(PackageError, match="the scores fit kind logits and task single_label"):
        load(folder)
