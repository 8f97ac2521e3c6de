"""Real photos and the demo model: sensible classes, and the scores of PIL and TorchScript."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import DEMO_PACKAGE
from tests.support.images import PHOTOS, to_base64
from tests.support.server import Server

pytestmark = pytest.mark.weights

EXPECTED = {
    "chelsea": ("tabby", "cat"),
    "coffee": ("espresso", "cup"),
    "rocket.jpg": ("missile", "projectile"),
    "china.jpg": ("palace", "monastery", "boathouse"),
    "flower.jpg": ("daisy", "bee", "picket", "pot"),
}
"""By photo, words of which the name of its first class has at least one."""

FILES = sorted(path for path in PHOTOS.iterdir() if path.suffix in {".jpg", ".png", ".bmp"})


def _reference_scores(path: Path) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Scores from the model's own preprocessing, written with PIL, and plain TorchScript."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    side = int(224 / 256 * min(image.size))
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    image = image.crop((left, top, left + side, top + side)).resize(
        (224, 224), Image.Resampling.BICUBIC
    )
    pixels = (np.asarray(image, np.float32) - 127) / 128
    model = torch.jit.load(str(DEMO_PACKAGE / "1" / "model.pt"))
    with torch.inference_mode():
        logits = model(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])
    scores: np.ndarray[tuple[int], np.dtype[np.float32]] = torch.softmax(logits, 1)[0].numpy()
    return scores


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_scores_match_pil_and_torchscript(demo_server: Server, path: Path) -> None:
    body = {"image": to_base64(path.read_bytes()), "top_num": 1000}
    answer = demo_server.classify("imagenet", body)
    manifest = json.loads((DEMO_PACKAGE / "1" / "manifest.json").read_text())
    labels = (DEMO_PACKAGE / "1" / manifest["labels"]["file"]).read_text("utf-8").splitlines()
    expected = _reference_scores(path)
    served = answer.json["results"]
    assert len(served) == 1000
    assert served[0]["name"] == labels[int(expected.argmax())]
    ranked = np.sort(expected)[::-1]
    differences = np.abs([entry["score"] for entry in served] - ranked)
    assert differences.max() <= 0.005


@pytest.mark.parametrize(("start", "words"), EXPECTED.items())
def test_first_class_is_sensible(demo_server: Server, start: str, words: tuple[str, ...]) -> None:
    path = next(file for file in FILES if file.name.startswith(start))
    answer = demo_server.classify("imagenet", {"image": to_base64(path.read_bytes())})
    name = answer.json["results"][0]["name"]
    assert any(word in name for word in words), name


def test_concurrent_clients_each_get_their_own_answer(demo_server: Server) -> None:
    bodies = [json.dumps({"image": to_base64(path.read_bytes())}).encode() for path in FILES]
    alone = [demo_server.classify("imagenet", body).json["results"] for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        order = [index % len(bodies) for index in range(80)]
        together = list(pool.map(lambda i: demo_server.classify("imagenet", bodies[i]), order))
    for index, answer in zip(order, together, strict=True):
        for entry, lone in zip(answer.json["results"], alone[index], strict=True):
            assert entry["name"] == lone["name"]
            assert entry["score"] == pytest.approx(lone["score"], abs=1e-4)
