"""``classifyd package build``: every source, and what each refusal says."""

import json
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import Result
from PIL import Image

from app.errors import PackageError
from app.packages.build.foreign import import_extra
from app.packages.build.golden import preprocess_golden, read_golden_images
from app.packages.build.labels import read_label_source
from app.packages.build.reference import Transform, transform_of
from app.packages.package import load_package
from app.settings import PROJECT_ROOT
from tests.support.commands import run_classifyd
from tests.support.models import (
    SIDE,
    Binary,
    ScriptedDict,
    build_sharp_checkpoint,
    classifyd,
    script,
    sharp,
    write_labels,
)

PHOTOS = PROJECT_ROOT / "tests/photos"
FACTORY = ("--factory", "tests.support.models:sharp")
SMALL = ("--resize", SIDE)


def build(tmp_path: Path, *arguments: object, labels: int = 5) -> Result:
    path = write_labels(tmp_path / "labels.txt", [f"class {index}" for index in range(labels)])
    where = ("--labels", path, "--weights-dir", tmp_path / "weights")
    return classifyd("package", "build", "model", "1", *where, *arguments)


def refusal(result: Result) -> str:
    assert result.exit_code != 0
    return f"{result.exception} {result.output}"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return build_sharp_checkpoint(tmp_path / "model.pth")


def test_torchscript_becomes_a_package(tmp_path: Path) -> None:
    model = script(sharp(), tmp_path / "model.pt")
    result = build(tmp_path, "--torchscript", model, *SMALL)
    assert result.exit_code == 0, result.exception
    assert "3 golden samples" in result.output
    assert load_package(tmp_path / "weights/model/1").golden is not None


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint_is_found_under_its_key_and_without_prefix(tmp_path: Path, key: str) -> None:
    state = {f"module.{name}": tensor for name, tensor in sharp().state_dict().items()}
    checkpoint = build_sharp_checkpoint(tmp_path / "model.pth", {key: state, "epoch": 3})
    result = build(tmp_path, *FACTORY, "--checkpoint", checkpoint, *SMALL, "--script")
    assert result.exit_code == 0, result.exception


def test_missing_and_unexpected_weights_are_named(tmp_path: Path) -> None:
    state = sharp().state_dict()
    state["other.weight"] = state.pop("head.weight")
    checkpoint = build_sharp_checkpoint(tmp_path / "model.pth", state)
    said = refusal(build(tmp_path, *FACTORY, "--checkpoint", checkpoint, *SMALL))
    assert "missing head.weight; unexpected other.weight" in said


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    checkpoint = build_sharp_checkpoint(tmp_path / "model.pth", sharp(7).state_dict())
    said = refusal(build(tmp_path, *FACTORY, "--checkpoint", checkpoint, *SMALL))
    assert "head.weight (7, 256), the model's is (5, 256)" in said


def test_a_pickled_module_is_not_loaded(tmp_path: Path) -> None:
    torch.save(sharp(), tmp_path / "model.pth")
    said = refusal(build(tmp_path, *FACTORY, "--checkpoint", tmp_path / "model.pth", *SMALL))
    assert "holds more than weights" in said


def test_another_number_of_labels_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    result = build(tmp_path, *FACTORY, "--checkpoint", checkpoint, *SMALL, labels=4)
    assert "the package has 4 labels" in refusal(result)
    assert not (tmp_path / "weights/model/1").exists()


def test_a_trace_that_froze_a_condition_is_refused_with_the_difference(tmp_path: Path) -> None:
    result = build(tmp_path, "--factory", "tests.support.models:Frozen", *SMALL, labels=3)
    assert "torch.jit.trace gives other outputs than the module: off by" in refusal(result)


def test_the_same_model_scripted_is_accepted(tmp_path: Path) -> None:
    result = build(
        tmp_path, "--factory", "tests.support.models:Frozen", *SMALL, "--script", labels=3
    )
    assert result.exit_code == 0, result.exception


def test_a_model_holds_no_path_of_the_machine_that_built_it(
    tmp_path: Path, checkpoint: Path
) -> None:
    result = build(tmp_path, *FACTORY, "--checkpoint", checkpoint, *SMALL)
    assert result.exit_code == 0, result.exception
    model = zipfile.ZipFile(tmp_path / "weights/model/1/model.pt")
    content = b"".join(model.read(name) for name in model.namelist())
    for path in (PROJECT_ROOT, sys.prefix, tmp_path):
        assert str(path).encode() not in content


@pytest.mark.parametrize("positive", [0, 1])
def test_one_output_and_two_labels_become_two_classes(tmp_path: Path, positive: int) -> None:
    model = script(Binary(), tmp_path / "model.pt")
    named = ("--positive", f"class {positive}")
    result = build(tmp_path, "--torchscript", model, *SMALL, *named, labels=2)
    assert result.exit_code == 0, result.exception
    golden = load_package(tmp_path / "weights/model/1").golden
    assert golden is not None
    assert golden.scores.sum(axis=1) == pytest.approx([1, 1, 1])
    images = preprocess_golden(read_golden_images(()), _transform(tmp_path), "exif")
    with torch.inference_mode():
        expected = Binary()(images).sigmoid()[:, 0]
    assert golden.scores[:, positive] == pytest.approx(expected.numpy(), abs=1e-6)


def _transform(tmp_path: Path) -> Transform:
    return transform_of(load_package(tmp_path / "weights/model/1").manifest.preprocess)


def test_one_output_and_two_labels_need_to_be_told_which_label_it_scores(tmp_path: Path) -> None:
    model = script(Binary(), tmp_path / "model.pt")
    source = ("--torchscript", model, *SMALL)
    said = refusal(build(tmp_path, *source, labels=2))
    assert "say which of them it scores, --positive 'class 0' or --positive 'class 1'" in said
    said = refusal(build(tmp_path, *source, "--positive", "dog", labels=2))
    assert "--positive 'dog' is none of the labels class 0, class 1" in said
    positive = ("--positive", "class 1")
    said = refusal(build(tmp_path, *source, *positive, "--task", "multi_label", labels=2))
    assert "omit --task multi_label" in said
    said = refusal(build(tmp_path, *FACTORY, *SMALL, *positive))
    assert "--positive is for a model with one output and two labels" in said


def test_one_label_with_a_softmax_is_refused_with_what_to_say_instead(tmp_path: Path) -> None:
    source = ("--torchscript", script(Binary(), tmp_path / "model.pt"), *SMALL)
    said = refusal(build(tmp_path, *source, labels=1))
    assert "'class 0', would always have the score 1: give --task multi_label" in said
    result = build(tmp_path, *source, "--task", "multi_label", labels=1)
    assert result.exit_code == 0, result.exception
    manifest = tmp_path / "weights/model/1/manifest.json"
    manifest.write_text(manifest.read_text().replace("multi_label", "single_label"))
    with pytest.raises(PackageError, match="output.task: the only class would always have"):
        load_package(manifest.parent)


class Ending(torch.nn.Module):
    """The sharp model with a last step."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.model = sharp()
        self.step = step

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images)
        if self.step == "softmax":
            return logits.softmax(1)
        if self.step == "sigmoid":
            return logits.sigmoid()
        return logits


def _ending(tmp_path: Path, step: str) -> tuple[object, ...]:
    return ("--torchscript", script(Ending(step), tmp_path / f"{step}.pt"), *SMALL)


@pytest.mark.parametrize(
    ("step", "options", "told"),
    [
        ("softmax", (), "not negative and sum to 1, as probabilities do"),
        ("sigmoid", ("--task", "multi_label"), "not negative and are at most 1, as probabilities"),
        ("plain", ("--output", "probabilities"), "outside 0 to 1; give --output-kind logits"),
        (
            "sigmoid",
            ("--output", "probabilities"),
            "not to 1; give --output-kind logits, or --task",
        ),
    ],
)
def test_outputs_that_are_not_what_was_said_are_refused(
    tmp_path: Path, step: str, options: tuple[str, ...], told: str
) -> None:
    assert told in refusal(build(tmp_path, *_ending(tmp_path, step), *options))
    assert not (tmp_path / "weights/model/1").exists()


@pytest.mark.parametrize(
    ("step", "options"),
    [
        ("softmax", ("--output-kind", "probabilities")),
        ("softmax", ("--output", "logits")),
        ("sigmoid", ("--output", "probabilities", "--task", "multi_label")),
        ("sigmoid", ("--output", "logits", "--task", "multi_label")),
        ("sigmoid", ()),
        ("plain", ()),
        ("plain", ("--task", "multi_label")),
    ],
)
def test_outputs_that_are_what_was_said_become_a_package(
    tmp_path: Path, step: str, options: tuple[str, ...]
) -> None:
    result = build(tmp_path, *_ending(tmp_path, step), *options)
    assert result.exit_code == 0, result.exception


def test_a_golden_image_with_the_wrong_label_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    photo = PHOTOS / "coffee.jpg"
    for label in range(2):
        result = build(
            tmp_path, *FACTORY, "--checkpoint", checkpoint, *SMALL,
            "--golden", f"class {label}={photo}",
        )  # fmt: skip
        if result.exit_code:
            break
    assert "likely cause: the label file" in refusal(result)


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_steps_come_from_a_file(tmp_path: Path, checkpoint: Path, form: str) -> None:
    size = {"height": SIDE, "width": SIDE}
    kind = {"filter": "bicubic", "antialias": True, "resampling": "exact"}
    steps = [
        {"step": "color", "order": "BGR"},
        {"step": "resize", "mode": "letterbox", "pad": [1, 2, 3], **size, **kind},
    ]
    path = tmp_path / f"steps.{form}"
    path.write_text(yaml.safe_dump(steps) if form == "yaml" else json.dumps({"preprocess": steps}))
    result = build(tmp_path, *FACTORY, "--checkpoint", checkpoint, "--preprocess", path)
    assert result.exit_code == 0, result.exception
    golden = load_package(tmp_path / "weights/model/1").golden
    assert golden is not None
    assert golden.tolerance == 0.0005


def test_torchvision_with_the_transforms_of_its_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = import_extra("torchvision", "this test").models.get_model(
        "squeezenet1_1", num_classes=5
    )
    torch.save({"model": network.state_dict()}, tmp_path / "model.pth")
    enum = "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    source = ("--torchvision", "squeezenet1_1", "--checkpoint", tmp_path / "model.pth")
    result = build(tmp_path, *source, "--weights-enum", enum)
    assert result.exit_code == 0, result.exception
    assert load_package(tmp_path / "weights/model/1").manifest.input.height == 224


def test_timm_with_its_data_configuration(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.txt", [f"class {index}" for index in range(5)])
    # In a separate process: in this one, another test may have made torchvision importable.
    run_classifyd(
        "package", "build", "model", "1", "--factory", "timm:create_model", "--factory-args",
        json.dumps({"model_name": "test_resnet", "num_classes": 5}), "--timm-config", "model",
        "--labels", labels, "--weights-dir", tmp_path / "weights",
    )  # fmt: skip
    assert load_package(tmp_path / "weights/model/1").manifest.preprocess


def test_a_torchvision_model_needs_a_checkpoint(tmp_path: Path) -> None:
    said = refusal(build(tmp_path, "--torchvision", "resnet18", "--resize", 64))
    assert "nothing is downloaded" in said


def test_the_folders_of_an_image_folder_are_labels(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
    assert read_label_source(tmp_path) == ["a", "b", "c"]


@pytest.mark.parametrize("orientation", ["exif", "ignore"])
def test_one_rule_for_the_orientation_holds_from_build_to_evaluation(
    tmp_path: Path, checkpoint: Path, orientation: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = tmp_path / "photos" / "class 0"
    folder.mkdir(parents=True)
    with Image.open(PHOTOS / "chelsea.png") as photo:
        # In three places of which Pillow knows.
        photo.save(folder / "exif.jpg", exif=exif.tobytes())
        photo.save(folder / "exif.png", exif=exif.tobytes())
        photo.save(folder / "xmp.jpg", xmp=b'<rdf:Description tiff:Orientation="8"/>')
    golden = [part for file in sorted(folder.iterdir()) for part in ("--golden", file)]
    rule = ("--orientation", orientation)
    result = build(tmp_path, *FACTORY, "--checkpoint", checkpoint, *SMALL, *golden, *rule)
    assert result.exit_code == 0, result.exception
    package = tmp_path / "weights/model/1"
    assert load_package(package).manifest.orientation == orientation
    evaluated = classifyd(
        "evaluate",
        package,
        folder.parent,
        "--reference",
        "--json",
        "--report",
        tmp_path / "report.html",
    )
    assert evaluated.exit_code == 0, evaluated.exception
    reference = json.loads(evaluated.stdout)["reference"]
    assert reference["same_top"] == reference["images"] == 3
    assert reference["largest_difference"] < 0.005


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("dict", "logits"),
        ("tuple", "1"),
        ("namedtuple", "logits"),
        ("object", "logits"),
        ("single", None),
    ],
)
def test_one_of_several_outputs_is_chosen(tmp_path: Path, kind: str, key: str | None) -> None:
    source = ("--factory", "tests.support.models:ManyOutputs", "--factory-args")
    arguments = (*source, json.dumps({"kind": kind}), *SMALL)
    if key is not None:
        assert "choose one with --output-key: " in refusal(build(tmp_path, *arguments))
        assert "'other' is none" in refusal(build(tmp_path, *arguments, "--output-key", "other"))
    result = build(tmp_path, *arguments, *(("--output-key", key) if key else ()))
    assert result.exit_code == 0, result.exception
    folder = tmp_path / "weights/model/1"
    images = torch.rand(3, 3, SIDE, SIDE)
    with torch.inference_mode():
        found = torch.jit.load(str(folder / "model.pt"))(images)
        assert torch.allclose(found, sharp()(images), atol=1e-5)


def test_one_of_several_outputs_of_torchscript_is_chosen(tmp_path: Path) -> None:
    model = script(ScriptedDict(), tmp_path / "model.pt")
    assert "features (1, 3), logits (1, 5)" in refusal(
        build(tmp_path, "--torchscript", model, *SMALL)
    )
    result = build(tmp_path, "--torchscript", model, *SMALL, "--output-key", "logits")
    assert result.exit_code == 0, result.exception
