"""Packages with an ONNX file: what is built, computed and refused."""

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.errors import PackageError
from app.inference.engines.base import FloatArray
from app.inference.engines.openvino import OpenVinoEngine, convert
from app.inference.engines.plain import load_default, load_reference
from app.inference.local import LocalClassifier
from app.inference.tuning.candidates import Candidates
from app.inference.tuning.reference import probe_batch
from app.inference.tuning.selection import EngineRequirements
from app.inference.tuning.tuner import tune
from app.licence.issue import seal_package
from app.licence.keys import content_key
from app.packages.onnx_file import read_onnx
from app.packages.package import Package, load_package
from app.settings import PROJECT_ROOT
from tests.support.licences import CONTACT
from tests.support.models import SHARP_LABELS, SHARP_STEPS, classifyd, sharp, write_labels
from tests.support.onnx_models import LEVEL_STEPS, save_binary, save_node, save_sharp
from tests.support.server import Server

CPU = EngineRequirements("auto", "float32", "cpu", threads=2, tolerance=0.001)


def build(tmp_path: Path, source: Path, *arguments: object, **given: list[object]) -> Result:
    labels = [str(label) for label in given.get("labels", SHARP_LABELS)]
    steps = tmp_path / "steps.json"
    steps.write_text(json.dumps(given.get("steps", SHARP_STEPS)))
    where = ("--labels", write_labels(tmp_path / "labels.txt", labels), "--preprocess", steps)
    weights = ("--weights-dir", tmp_path / "weights")
    return classifyd(
        "package", "build", "model", "1", "--onnx", source, *where, *weights, *arguments
    )


def built(tmp_path: Path, source: Path, *arguments: object, **given: list[object]) -> Package:
    result = build(tmp_path, source, *arguments, **given)
    assert result.exit_code == 0, (result.exception, result.output)
    return load_package(tmp_path / "weights/model/1")


def refusal(result: Result) -> str:
    assert result.exit_code != 0
    return f"{result.exception} {result.output}"


def eager_logits(package: Package) -> FloatArray:
    """Of sharp() on the probes, with the preprocessing that it was made for."""
    inputs = torch.from_numpy(probe_batch(package))
    if package.manifest.input.dtype == "uint8":
        mean, std = (torch.tensor(SHARP_STEPS[4][key]).view(3, 1, 1) for key in ("mean", "std"))
        inputs = (inputs / 255 - mean) / std
    with torch.inference_mode():
        logits: FloatArray = sharp()(inputs).numpy()
    return logits


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("batch", ["N", 1])
def test_every_engine_computes_each_layout_dtype_and_batch(
    tmp_path: Path, layout: str, dtype: str, batch: str | int
) -> None:
    source = save_sharp(tmp_path / "sharp.onnx", layout, dtype, batch)
    steps = LEVEL_STEPS if dtype == "uint8" else SHARP_STEPS
    package = built(tmp_path, source, steps=list(steps))
    assert package.model_path.read_bytes() == source.read_bytes()
    expected = eager_logits(package)
    openvino = OpenVinoEngine(convert(package), "float32", 1, 1 if batch == 1 else 8)
    for engine in (load_reference(package), load_default(package), openvino):
        found = engine.infer(probe_batch(package))
        # float16 rounds the normalised pixels to 11 bits.
        assert np.abs(found - expected).max() < (0.1 if dtype == "float16" else 1e-3), engine.name


def test_tuning_measures_both_engines_and_no_batches_of_a_fixed_one(tmp_path: Path) -> None:
    package = built(tmp_path, save_sharp(tmp_path / "sharp.onnx", batch=1))
    rows = tune(package, CPU, tmp_path / "state").measurements
    assert {(row.engine, row.batch) for row in rows} == {("onnxruntime", 1), ("openvino", 1)}
    assert not any(row.problem for row in rows)
    assert max(row.difference for row in rows) < 1e-4


@pytest.mark.parametrize(
    ("engine", "precision", "device", "expected"),
    [
        ("auto", "float32", "cpu", ["onnxruntime", "openvino"]),
        ("onnxruntime", "float32", "cpu", ["onnxruntime"]),
        ("openvino", "float32", "cpu", ["openvino"]),
        ("torchscript", "float32", "cpu", []),
        ("auto", "int8", "cpu", ["openvino"]),
        ("auto", "float32", "cuda:0", ["onnxruntime-cuda"]),
    ],
)
def test_candidates_of_an_onnx_package(
    tmp_path: Path, engine: str, precision: str, device: str, expected: list[str]
) -> None:
    package = built(tmp_path, save_sharp(tmp_path / "sharp.onnx"))
    requirements = EngineRequirements(engine, precision, device, threads=1, tolerance=0.001)
    assert Candidates(package, requirements, tmp_path).names() == expected


def test_one_of_several_outputs_is_chosen_by_name(tmp_path: Path) -> None:
    source = save_sharp(tmp_path / "sharp.onnx", has_features=True)
    message = refusal(build(tmp_path, source))
    assert "--output-key: features float (?, 256), logits float (?, 5)" in message
    assert "'scores' is none" in refusal(build(tmp_path, source, "--output-key", "scores"))
    package = built(tmp_path, source, "--output-key", "logits")
    assert package.manifest.output.name == "logits"
    for engine in (load_default(package), OpenVinoEngine(convert(package), "float32", 1)):
        found = engine.infer(probe_batch(package)[:1])
        assert np.abs(found - eager_logits(package)[:1]).max() < 1e-3


def test_weights_beside_the_file_are_merged(tmp_path: Path) -> None:
    source = save_sharp(tmp_path / "sharp.onnx", is_external=True)
    assert (tmp_path / "weights.data").exists()
    package = built(tmp_path, source)
    read_onnx(package.model_path)
    found = load_default(package).infer(probe_batch(package))
    assert np.abs(found - eager_logits(package)).max() < 1e-3
    (tmp_path / "weights.data").unlink()
    shutil.rmtree(package.folder)
    assert "'weights.data', which is missing" in refusal(build(tmp_path, source))


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "link"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(10_000))
    (folder / "link").symlink_to(tmp_path / "secret")
    source = save_sharp(folder / "sharp.onnx", is_external=True)
    model = onnx.load(str(source), load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = location
    source.write_bytes(model.SerializeToString())
    assert f"{location!r}, outside its folder" in refusal(build(tmp_path, source))
    with pytest.raises(PackageError, match="the weights are in another file"):
        read_onnx(source)


@pytest.mark.parametrize(
    ("operator", "domain", "shown"),
    [("Detect", "my.company", "my.company::Detect"), ("Detect", "", "(Detect)")],
)
def test_custom_operators_are_refused_by_name(
    tmp_path: Path, operator: str, domain: str, shown: str
) -> None:
    source = save_node(tmp_path / "custom.onnx", operator, domain, ("N", 5))
    assert shown in refusal(build(tmp_path, source))


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"not a model", (PROJECT_ROOT / "tests/photos/coffee.jpg").read_bytes()):
        (tmp_path / "model.onnx").write_bytes(data)
        message = refusal(build(tmp_path, tmp_path / "model.onnx"))
        assert "expected an ONNX file, found something else" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dtype": "int8"}, "the input image is int8, expected float32, float16 or uint8"),
        ({"batch": 4}, "the input has the shape (4, 3, 64, 64)"),
    ],
)
def test_inputs_that_no_image_fits_are_refused(
    tmp_path: Path, changes: dict[str, int], expected: str
) -> None:
    source = save_sharp(tmp_path / "sharp.onnx", **changes)  # type: ignore[arg-type]
    assert expected in refusal(build(tmp_path, source))


def test_a_size_that_the_preprocessing_does_not_make_is_named(tmp_path: Path) -> None:
    steps = json.loads(json.dumps(SHARP_STEPS))
    steps[2] |= {"height": 60, "width": 60}
    message = refusal(build(tmp_path, save_sharp(tmp_path / "sharp.onnx"), steps=steps))
    assert "the model takes (?, 3, 64, 64); the preprocessing makes (?, 3, 60, 60)" in message


def test_uint8_takes_no_scale(tmp_path: Path) -> None:
    source = save_sharp(tmp_path / "sharp.onnx", "NHWC", "uint8")
    assert "expected no scale and no normalize" in refusal(build(tmp_path, source))


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize("positive", ["red", "blue"])
def test_a_binary_model_gets_its_second_class(tmp_path: Path, kind: str, positive: str) -> None:
    source = save_binary(tmp_path / "binary.onnx", is_probability=kind == "probabilities")
    options = ("--output-kind", kind, "--positive", positive)
    package = built(tmp_path, source, *options, labels=["red", "blue"])
    photo = (PROJECT_ROOT / "tests/photos/coffee.jpg").read_bytes()
    top = LocalClassifier(package).classify(photo, 2)
    assert top[0]["name"] == positive  # the photo is red, and the output is high for it
    found = OpenVinoEngine(convert(package), "float32", 1).infer(probe_batch(package)[:1])
    assert np.abs(found - load_reference(package).infer(probe_batch(package)[:1])).max() < 1e-4


def test_verify_no_run_reads_the_file(tmp_path: Path) -> None:
    package = built(tmp_path, save_sharp(tmp_path / "sharp.onnx"))
    assert classifyd("package", "verify", package.folder, "--no-run").exit_code == 0


def test_a_sealed_file_is_computed_from_memory_alone(tmp_path: Path) -> None:
    plain = built(tmp_path, save_sharp(tmp_path / "sharp.onnx", "NHWC"))
    publisher = Ed25519PrivateKey.generate()
    package = seal_package(plain.folder, tmp_path / "sealed", publisher, CONTACT)
    assert package.manifest.model.format == "onnx"
    assert b"head.weight" in plain.model_path.read_bytes()
    assert b"head.weight" not in package.model_path.read_bytes()
    assert classifyd("package", "verify", package.folder, "--no-run").exit_code == 0
    opened = replace(package, content_key=content_key(publisher, "model"))
    state = tmp_path / "state"
    state.mkdir()
    candidates = Candidates(opened, CPU, state)
    for name in candidates.names():
        candidates.prepare(name)
        found = candidates.load(name, 1).infer(probe_batch(plain)[:1])
        assert np.abs(found - eager_logits(plain)[:1]).max() < 1e-3, name
    stored = [path for path in state.rglob("*") if path.is_file()]
    assert stored
    weights = sharp().state_dict()["head.weight"].numpy().tobytes()[:256]
    assert weights in plain.model_path.read_bytes()
    assert not [path for path in stored if weights in path.read_bytes()]


def test_a_server_answers_with_an_onnx_package(tmp_path: Path) -> None:
    source = save_sharp(tmp_path / "sharp.onnx", "NHWC", "uint8")
    package = built(tmp_path, source, steps=list(LEVEL_STEPS))
    photo = (PROJECT_ROOT / "tests/photos/coffee.jpg").read_bytes()
    expected = LocalClassifier(package).classify(photo, 5)
    with Server(tmp_path / "weights", tmp_path, engine="onnxruntime") as server:
        payload = {"image": base64.b64encode(photo).decode(), "top_num": 5}
        found = server.classify("model", payload).json["results"]
        assert [each["name"] for each in found] == [each["name"] for each in expected]
        assert all(
            abs(each["score"] - float(other["score"])) < 1e-4
            for each, other in zip(found, expected, strict=True)
        )
