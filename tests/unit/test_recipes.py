"""Sources that bring their own preprocessing along, and files that are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from app.errors import OperatorError
from app.imaging.preprocess import Preprocessor
from app.packages.build.foreign import import_extra
from app.packages.build.golden import preprocess_golden, read_golden_images
from app.packages.build.presets import Preset, preset_from_timm, preset_from_timm_config
from app.packages.build.reference import transform_of
from app.packages.manifest import parse_preprocess
from app.packages.package import load_package
from tests.support.models import SIDE, classifyd, sharp, write_labels
from tests.support.onnx_models import save_sharp
from tests.support.tools import import_package
from tests.unit.test_build import FACTORY, build, refusal

SIZES = ((301, 404), (405, 302), (90, 233), (640, 97), (61, 61))
METADATA = {
    "description": "Ultralytics YOLO11n-cls model",
    "version": "8.4.190",
    "task": "classify",
    "batch": 1,
    "imgsz": [SIDE, SIDE],
    "names": {"0": "ant", "1": "bee", "2": "wasp", "3": "fly", "4": "moth"},
    "channels": 3,
}


class Softmax(torch.nn.Module):
    """The sharp model as Ultralytics exports one: with the softmax inside."""

    def __init__(self) -> None:
        super().__init__()
        self.model = sharp()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = self.model(images).softmax(1)
        return probabilities


def export(path: Path, **changed: object) -> Path:
    """Write what ``yolo export format=torchscript`` writes."""
    files = {"config.txt": json.dumps(METADATA | changed)}
    traced = torch.jit.trace(Softmax().eval(), torch.rand(1, 3, SIDE, SIDE))
    traced.save(str(path), _extra_files=files)
    return path


def largest_difference(preset: Preset) -> float:
    """Compare the server's own pixels with the source's, on pictures of odd sizes."""
    assert preset.transform is not None
    served = Preprocessor(parse_preprocess(preset.steps, preset.origin))
    random = np.random.default_rng(1)
    differences = []
    for height, width in SIZES:
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        expected = preset.transform(Image.fromarray(pixels)).numpy()
        differences.append(float(np.abs(served(pixels) - expected).max()))
    return max(differences)


def test_an_ultralytics_export_becomes_a_package_by_itself(tmp_path: Path) -> None:
    path = export(tmp_path / "best.torchscript")
    where = ("--weights-dir", tmp_path / "weights", "--resampling", "exact")
    result = classifyd("package", "build", "yolo", "1", "--ultralytics", path, *where)
    assert result.exit_code == 0, result.exception
    package = load_package(tmp_path / "weights/yolo/1")
    assert package.labels == ("ant", "bee", "wasp", "fly", "moth")
    assert package.manifest.output.kind == "probabilities"
    images = read_golden_images(())
    # ultralytics.data.augment.classify_transforms with a square size.
    transforms = import_extra("torchvision", "this test").transforms
    own = transforms.Compose(
        [
            transforms.Resize(SIDE),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize(mean=torch.zeros(3), std=torch.ones(3)),
        ]
    )
    with torch.inference_mode():
        expected = Softmax().eval()(preprocess_golden(images, own, "exif"))
    assert package.golden is not None
    assert package.golden.scores == pytest.approx(expected.numpy(), abs=1e-6)


def test_an_onnx_export_of_ultralytics_becomes_a_package_too(tmp_path: Path) -> None:
    path = tmp_path / "best.onnx"
    model = onnx.load(save_sharp(path))
    model.graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["output0"], axis=1))
    model.graph.output[0].name = "output0"
    metadata = {
        "task": "classify",
        "imgsz": str([SIDE, SIDE]),
        "names": str(dict(enumerate(LABELS))),
    }
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    where = ("--weights-dir", tmp_path)
    result = classifyd("package", "build", "a", "1", "--ultralytics", path, *where)
    assert result.exit_code == 0, result.exception
    package = load_package(tmp_path / "a/1")
    assert list(package.labels) == LABELS
    assert package.manifest.output.kind == "probabilities"
    onnx.helper.set_model_props(model, metadata | {"task": "segment"})
    onnx.save(model, path)
    assert "is a model for the task segment" in refusal(
        classifyd("package", "build", "a", "2", "--ultralytics", path, *where)
    )


def test_an_oblong_export_is_resized_without_a_crop(tmp_path: Path) -> None:
    path = export(tmp_path / "best.torchscript", imgsz=[64, 96])
    result = classifyd(
        "package", "build", "a", "1", "--ultralytics", path, "--weights-dir", tmp_path
    )
    assert result.exit_code == 0, result.exception
    step = load_package(tmp_path / "a/1").manifest.preprocess[1]
    assert (step.height, step.width) == (64, 96)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"task": "detect"}, "is a model for the task detect, expected classify"),
        ({"names": {"1": "ant"}}, "names or imgsz of its metadata are wrong"),
        ({"channels": 1}, "takes 1 channels, expected 3"),
    ],
)
def test_another_export_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    path = export(tmp_path / "best.torchscript", **changed)
    assert told in refusal(classifyd("package", "build", "a", "1", "--ultralytics", path))


def test_a_file_that_is_no_export_is_refused_with_the_command(tmp_path: Path) -> None:
    torch.save(sharp().state_dict(), tmp_path / "best.pt")
    said = refusal(classifyd("package", "build", "a", "1", "--ultralytics", tmp_path / "best.pt"))
    assert "yolo export model=best.pt format=torchscript" in said


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"crop_pct": 0.95, "interpolation": "bilinear"},
        {"crop_mode": "squash", "crop_pct": 0.93},
        {"crop_mode": "border", "crop_pct": 1.0},
        {"crop_mode": "border", "crop_pct": 0.9},
        {"input_size": (3, 48, 80), "crop_pct": 0.9},
        {"input_size": (3, 80, 47), "crop_mode": "border"},
        {"input_size": (3, 80, 47), "crop_mode": "squash", "crop_pct": 0.8},
    ],
    ids=str,
)
def test_the_crops_of_timm_give_its_own_pixels(changed: dict[str, Any]) -> None:
    config: dict[str, Any] = {
        "input_size": (3, SIDE, SIDE),
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "crop_pct": 0.875,
        "crop_mode": "center",
    }
    preset = preset_from_timm_config(config | changed, "exact", "this test")
    assert largest_difference(preset) < 1e-5


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"foo": 1}, "without input_size, interpolation, mean, std, crop_pct: timm's config.json"),
        ([], "without input_size"),
        (
            {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5]},
            "a file of transformers, whose folder --huggingface takes",
        ),
        (
            {"pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0, 0, 0], "std": [1, 1, 1]}},
            "without interpolation, crop_pct",
        ),
    ],
)
def test_a_file_that_is_no_timm_configuration_is_refused(
    tmp_path: Path, document: object, told: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(OperatorError, match=told):
        preset_from_timm(str(path), sharp(), "fast")


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("model.h5", "model.export('model.onnx', format='onnx') in Keras, then --onnx"),
        ("model.keras", "model.export('model.onnx', format='onnx') in Keras, then --onnx"),
        ("model.tflite", "python -m tf2onnx.convert --tflite"),
        ("model.pb", "python -m tf2onnx.convert --saved-model"),
        ("model.pdmodel", "paddle2onnx --model_dir"),
        ("model.mlmodel", "give the model that it was made from"),
        ("model.engine", "give the ONNX file that it was made from"),
        ("model.xml", "give the model that it was made from"),
        ("export.pkl", "learn.save('model', with_opt=False)"),
        ("model.safetensors", "give it as --checkpoint with --torchvision or --factory"),
    ],
)
def test_files_of_other_frameworks_are_refused_with_the_way_in(
    tmp_path: Path, name: str, way: str
) -> None:
    (tmp_path / name).touch()
    said = refusal(build(tmp_path, "--torchscript", tmp_path / name, "--resize", SIDE))
    assert f"{name} is " in said
    assert way in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--weights-enum", "X", "--mean", "0,0,0"), "--weights-enum describes the whole preproc"),
        (("--timm-config", "model", "--resize", "9"), "omit --resize"),
        (("--preprocess", "{steps}", "--resampling", "exact"), "--preprocess names the resampling"),
        (("--resize", "9", "--checkpoint-prefix", "model."), "is read with --checkpoint only"),
        (("--resize", "9", "--huggingface", "."), "give one of --torchscript,"),
    ],
)
def test_an_option_that_would_not_be_read_is_refused(
    tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    steps = tmp_path / "steps.json"
    steps.write_text("[]")
    given = [option.format(steps=steps) for option in options]
    assert told in refusal(build(tmp_path, *FACTORY, *given))


def test_every_field_of_a_manifest_has_an_option(tmp_path: Path) -> None:
    training = tmp_path / "training.json"
    training.write_text('{"epochs": 3}')
    result = build(
        tmp_path, *FACTORY, "--resize-shortest", 80, "--crop", SIDE,
        "--rounding", "floor", "--scaled-decode", "--orientation", "ignore", "--training", training,
    )  # fmt: skip
    assert result.exit_code == 0, result.exception
    manifest = load_package(tmp_path / "weights/model/1").manifest
    assert manifest.scaled_decode
    assert manifest.training == {"epochs": 3}
    assert manifest.preprocess[2].rounding == "floor"  # type: ignore[attr-defined]


def test_a_file_of_steps_with_other_keys_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    path.write_text('{"preprocess": [], "scaled_decode": true}')
    said = refusal(build(tmp_path, *FACTORY, "--preprocess", path))
    assert "unknown keys scaled_decode: only the steps under preprocess are read" in said


@pytest.fixture(scope="module")
def transformers() -> Any:
    import_extra("torchvision", "this test")
    return import_package("transformers")


def save_resnet(transformers: Any, folder: Path, labels: list[str] | None = None) -> Any:
    """Save a tiny ResNet of transformers with weights that make the scores differ."""
    torch.manual_seed(3)
    names = {"id2label": dict(enumerate(labels))} if labels else {"num_labels": 5}
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **names
    )
    model = transformers.ResNetForImageClassification(config).eval()
    with torch.no_grad():
        model.classifier[1].weight.mul_(20)
    model.save_pretrained(folder)
    return model


LABELS = ["ant", "bee", "wasp", "fly", "moth"]


def test_a_folder_of_transformers_becomes_a_package_by_itself(
    transformers: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    model = save_resnet(transformers, folder, LABELS)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 65}).save_pretrained(folder)
    where = ("--weights-dir", tmp_path / "weights")
    result = classifyd("package", "build", "hf", "1", "--huggingface", folder, *where)
    assert result.exit_code == 0, result.exception
    package = load_package(tmp_path / "weights/hf/1")
    assert list(package.labels) == LABELS
    assert package.manifest.preprocess[2].rounding == "floor"  # type: ignore[attr-defined]
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    with Image.open(package.golden.images[0]) as picture:  # type: ignore[union-attr]
        values = processor(images=picture.convert("RGB"), return_tensors="pt")
    with torch.inference_mode():
        expected = model(**values).logits.softmax(1)[0].numpy()
    assert package.golden.scores[0] == pytest.approx(expected, abs=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ViT", {"size": {"height": 60, "width": 48}}),
        ("ConvNext", {"size": {"shortest_edge": 61}}),
        ("ConvNext", {"size": {"shortest_edge": 384}}),
        ("Bit", {"size": {"shortest_edge": 71}, "crop_size": {"height": 60, "width": 49}}),
        ("Levit", {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}),
        ("EfficientNet", {"size": {"height": 60, "width": 60}}),
        (
            "EfficientNet",
            {"rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False},
        ),
    ],
    ids=str,
)
def test_the_processors_of_transformers_give_their_own_pixels(
    transformers: Any, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    from app.packages.build.huggingface import preset_from_processor

    getattr(transformers, f"{name}ImageProcessor")(**options).save_pretrained(tmp_path)
    assert largest_difference(preset_from_processor(tmp_path, "exact")) < 2e-5


def test_a_processor_that_does_more_than_its_fields_say_is_refused(
    transformers: Any, tmp_path: Path
) -> None:
    from app.packages.build.huggingface import preset_from_processor

    transformers.ViTImageProcessor(
        do_pad=True,
        pad_size={"height": 300, "width": 300},
    ).save_pretrained(tmp_path)
    with pytest.raises(OperatorError, match="ViTImageProcessorPil does more than its fields say"):
        preset_from_processor(tmp_path, "exact")


def test_what_a_folder_of_transformers_lacks_is_named(transformers: Any, tmp_path: Path) -> None:
    def said() -> str:
        where = ("--huggingface", tmp_path, "--weights-dir", tmp_path / "weights")
        return refusal(classifyd("package", "build", "a", "1", *where, *labels))

    labels: tuple[object, ...] = ()
    assert "config.json cannot be read: No such file" in said()
    model = save_resnet(transformers, tmp_path)
    assert "has no names for the classes (id2label): give --labels" in said()
    labels = ("--labels", write_labels(tmp_path / "labels.txt", LABELS))
    assert "has no image processor that transformers can load" in said()
    model.resnet.save_pretrained(tmp_path)
    assert "the weights lack classifier.1.bias, classifier.1.weight" in said()


def test_steps_equal_their_own_reference() -> None:
    steps: list[dict[str, Any]] = [
        {"step": "color", "order": "BGR"},
        {"step": "resize", "mode": "cover", "height": 70, "width": 50, "filter": "bilinear",
         "antialias": True, "resampling": "exact"},
        {"step": "center_crop", "height": 63, "width": 50, "pad": [1, 2, 3], "rounding": "floor"},
    ]  # fmt: skip
    preset = Preset(steps, transform_of(parse_preprocess(steps, "this test")), "this test")
    assert largest_difference(preset) == 0
