"""Batches over HTTP: each request gets its own answer, and only bad images fail."""

import io
import json
import random
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.inference.local import LocalClassifier
from app.inference.tuning.selection import EngineSelection, SelectionStore, engine_requirements
from app.packages.package import load_package
from app.settings import Settings
from tests.conftest import DEMO_PACKAGE
from tests.support.images import BLUE, GREEN, PHOTOS, RED, to_base64
from tests.support.packages import build_failing_package
from tests.support.server import Server

CONNECTIONS = 12
CROPS = 4
"""Crops of each photo, so that there are more images than connections."""

MAX_BATCH = 4
TOLERANCE = 1e-3
"""Of a score: a batch sums in another order than a single image."""


def batching_server(package: Path, state: Path) -> Server:
    """A server that computes batches, as if they had been measured as the fastest."""
    requirements = engine_requirements(Settings(engine="auto", inference_threads=1), "cpu")
    selection = EngineSelection("torchscript", MAX_BATCH, None, ())
    SelectionStore(state, load_package(package), requirements).write(selection)
    return Server(package.parent.parent, state, engine="auto", inference_threads=1)


def crops() -> list[bytes]:
    """Crops of every photo, from its left or top to its right or bottom, as PNG files."""
    files = []
    for path in sorted(PHOTOS.glob("*.*g")):
        with Image.open(path) as photo:
            side = min(photo.size) * 2 // 3
            for index in range(CROPS):
                left = (photo.width - side) * index // (CROPS - 1)
                top = (photo.height - side) * index // (CROPS - 1)
                part = photo.convert("RGB").crop((left, top, left + side, top + side))
                buffer = io.BytesIO()
                part.resize((256, 256)).save(buffer, "PNG")
                files.append(buffer.getvalue())
    return files


@pytest.mark.weights
def test_each_request_gets_the_answer_for_its_own_image(tmp_path: Path) -> None:
    images = crops()
    local = LocalClassifier(load_package(DEMO_PACKAGE / "1"))
    expected = list(local.map(local.score, images))
    # No image can be mistaken for another.
    assert min(np.abs(a - b).max() for a, b in combinations(expected, 2)) > 5 * TOLERANCE
    order = {label: index for index, label in enumerate(local.package.labels)}
    bodies = [json.dumps({"image": to_base64(image), "top_num": 5}).encode() for image in images]

    def ask(server: Server, start: int) -> int:
        """Send every image once on one connection; each connection starts with another image."""
        connection = server.connect()
        for step in range(len(images)):
            index = (start * 7 + step) % len(images)
            connection.request("POST", "/imagenet/ImageClassification", bodies[index])
            answer = json.loads(connection.getresponse().read())
            for result in answer["results"]:
                wanted = float(expected[index][order[result["name"]]])
                assert abs(result["score"] - wanted) < TOLERANCE, (index, answer)
        connection.close()
        return len(images)

    with batching_server(DEMO_PACKAGE / "1", tmp_path) as server:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            counts = pool.map(partial(ask, server), range(CONNECTIONS))
            assert sum(counts) == CONNECTIONS * len(images)
        _require_batches(server, CONNECTIONS * len(images), 0.5)


def test_only_the_bad_image_of_a_batch_fails(tmp_path: Path) -> None:
    package = build_failing_package(tmp_path / "w", "failing", rounds=50)
    wanted = {"green": GREEN, "blue": BLUE, "": RED}
    images = [*wanted.items()] * 8

    def ask(server: Server, start: int) -> list[tuple[str, str]]:
        """Pairs of the expected and the actual first class, which is empty for an error."""
        found = []
        # Each client has its own order, so that some batches have no red image.
        for name, image in random.Random(start).sample(images, len(images)):  # noqa: S311 - an order
            answer = server.classify("failing", {"image": image})
            assert answer.code in (0, 336000)
            found.append((name, answer.json["results"][0]["name"] if not answer.code else ""))
        return found

    (tmp_path / "state").mkdir()
    with batching_server(package, tmp_path / "state") as server:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for pairs in pool.map(partial(ask, server), range(CONNECTIONS)):
                assert all(name == first for name, first in pairs)
        # One or two of four images are red: most batches are run again, image by image.
        _require_batches(server, CONNECTIONS * len(images) * 2 // 3, 0.1)


def _require_batches(server: Server, results: int, share: float) -> None:
    """Require that images were computed in batches, or the test proves nothing.

    Args:
        server: the server after the requests.
        results: the number of results that it must have returned.
        share: the share of them that must at least have come from batches.
    """
    text = server.request("GET", "/metrics").body.decode()
    rows = re.findall(r'classifyd_image_batch_size_bucket\{.*le="([^"]+)"\} (\S+)', text)
    counts = {bound: int(float(count)) for bound, count in rows}
    assert counts["+Inf"] == results
    assert results - counts["1.0"] > results * share
