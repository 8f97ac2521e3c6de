"""``package build --pt2``: what is computed, and that nothing of the file runs."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result

from app.inference.engines.plain import load_reference
from app.inference.tuning.reference import probe_batch
from app.packages.build.exported_program import ExportedProgram
from app.packages.package import load_package
from tests.support.models import SHARP_LABELS, SIDE, Sharp, classifyd, sharp, write_labels

# torch warns about its own internals when it exports.
pytestmark = pytest.mark.filterwarnings("ignore")


class Sizes(torch.nn.Module):
    """Computes with the batch size, and returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.sharp = sharp()

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        first, second = images.chunk(2, dim=3)
        joined = torch.cat([second, first], dim=3).view(images.size(0), 3, SIDE, SIDE)
        return {"logits": self.sharp(joined), "mean": joined.reshape(images.shape[0], -1).mean(1)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(sharp(), tmp_path_factory.mktemp("exported") / "sharp.pt2")


def save(model: torch.nn.Module, path: Path, batch: int | None = None) -> Path:
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    images = torch.rand(batch or 2, 3, SIDE, SIDE)
    torch.export.save(torch.export.export(model, (images,), dynamic_shapes=shapes), path)
    return path


def build(tmp_path: Path, source: Path, *arguments: object) -> Result:
    labels = write_labels(tmp_path / "labels.txt", SHARP_LABELS)
    where = ("--labels", labels, "--weights-dir", tmp_path / "weights", "--resize", SIDE)
    return classifyd("package", "build", "model", "1", "--pt2", source, *where, *arguments)


@pytest.mark.parametrize("batch", [1, None])
def test_it_becomes_torchscript_with_the_same_outputs(tmp_path: Path, batch: int | None) -> None:
    source = save(sharp(), tmp_path / "sharp.pt2", batch)
    result = build(tmp_path, source)
    assert result.exit_code == 0, (result.exception, result.output)
    package = load_package(tmp_path / "weights/model/1")
    assert package.manifest.model.format == "torchscript"
    images = probe_batch(package)
    with torch.inference_mode():
        expected = sharp()(torch.from_numpy(images)).numpy()
    assert np.abs(load_reference(package).infer(images) - expected).max() < 1e-5


def test_the_batch_size_stays_free_and_outputs_keep_their_names(tmp_path: Path) -> None:
    source = save(Sizes(), tmp_path / "sizes.pt2")
    message = str(build(tmp_path, source).exception)
    assert "--output-key: logits (1, 5), mean (1,)" in message
    result = build(tmp_path, source, "--output-key", "logits")
    assert result.exit_code == 0, (result.exception, result.output)
    package = load_package(tmp_path / "weights/model/1")
    images = probe_batch(package)
    with torch.inference_mode():
        expected = Sizes()(torch.from_numpy(images))["logits"].numpy()
    assert np.abs(load_reference(package).infer(images) - expected).max() < 1e-5


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Copy an archive, and change its files by their names without the root folder."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
    return target


def edit(name: str, change: Callable[[Any], object]) -> Callable[[str, bytes], bytes]:
    """Change the JSON of one file in an archive."""

    def apply(found: str, data: bytes) -> bytes:
        if found != name:
            return data
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return apply


MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


def set_target(target: str) -> Callable[[Any], object]:
    return lambda document: document["graph_module"]["graph"]["nodes"][0].update(target=target)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        (MODEL, set_target("torch.os.system"), "needs the operator 'torch.os.system'"),
        (MODEL, set_target("_operator.call"), "needs the operator '_operator.call'"),
        (MODEL, set_target("torch.ops.my.op.default"), "'torch.ops.my.op.default'"),
        (MODEL, set_target("torch.ops.aten.from_file.default"), "aten.from_file"),
        (MODEL, set_target("torch.ops.aten.__init__.__call__"), "aten.__init__"),
        (MODEL, lambda document: document["schema_version"].update(major=9), "has format 9"),
        (
            WEIGHTS,
            lambda document: document["config"]["head.bias"].update(use_pickle=True),
            "head.bias is pickled, which could run any code",
        ),
        (MODEL, lambda document: document.pop("graph_module"), "that can be read here: KeyError"),
    ],
    # A function has another address in each process of pytest-xdist.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_could_run_code_is_refused(
    tmp_path: Path, exported: Path, name: str, change: Callable[[Any], object], expected: str
) -> None:
    source = rewrite(exported, tmp_path / "hostile.pt2", edit(name, change))
    assert expected in str(build(tmp_path, source).exception)


def test_no_pickle_name_or_guard_of_the_file_is_looked_at(tmp_path: Path, exported: Path) -> None:
    def poison(name: str, data: bytes) -> bytes:
        if name.startswith("data/sample_inputs/"):
            return b"no pickle at all"
        code = "__import__('os').abort()"
        guarded = edit(MODEL, lambda document: document.update(guards_code=[code]))
        return guarded(name, data)

    source = rewrite(exported, tmp_path / "poisoned.pt2", poison)
    images = torch.rand(3, 3, SIDE, SIDE)
    with torch.inference_mode():
        assert torch.equal(ExportedProgram(source)(images), sharp()(images))


def test_compiled_libraries_and_other_files_are_refused(tmp_path: Path, exported: Path) -> None:
    compiled = tmp_path / "compiled.pt2"
    compiled.write_bytes(exported.read_bytes())
    with zipfile.ZipFile(compiled, "a") as archive:
        archive.writestr("sharp/data/aotinductor/model/model.so", b"\x7fELF")
    assert "holds a compiled library" in str(build(tmp_path, compiled).exception)
    torch.save(sharp().state_dict(), tmp_path / "weights.pt2")
    message = str(build(tmp_path, tmp_path / "weights.pt2").exception)
    assert "holds no model of torch.export.save" in message


def test_a_model_in_training_mode_is_refused(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3), Sharp()).train()
    message = str(build(tmp_path, save(model, tmp_path / "train.pt2")).exception)
    assert "model.eval() before torch.export.export" in message
