"""A hung inference, measured engines and scaled decoding, with the real gunicorn."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.images import GREEN, RED
from tests.support.packages import build_colour_package, build_hanging_package
from tests.support.server import Server
from tests.support.waiting import wait_until


def test_hung_inference_is_answered_and_logged_and_its_worker_replaced(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    build_hanging_package(weights, "hanging")
    settings = {"hang_timeout_s": 1, "inference_threads": 1, "http_status": "rest"}
    with Server(weights, tmp_path, **settings) as server, ThreadPoolExecutor(1) as pool:
        (before,) = server.worker_pids()
        hung = pool.submit(server.classify, "hanging", {"image": RED})
        # Green images get a result until one waits behind the red image.
        wait_until(lambda: server.classify("hanging", {"image": GREEN}).code == 336100, server)
        assert hung.result().code == 336100
        wait_until(lambda: before not in server.worker_pids(), server)
        server.wait_until_ready("/readyz")
        assert server.classify("hanging", {"image": GREEN}).code == 0
        (line,) = [line for line in server.log_lines() if line["level"] == "critical"]
        assert "inference-0" in line["message"]
        assert "hang_timeout_s" in line["message"]


def test_engine_auto_measures_once_and_keeps_its_choice(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    build_colour_package(weights, "colours", ["red", "green", "blue"])
    with Server(weights, tmp_path, engine="auto") as server:
        serving = server.request("GET", "/readyz").json["serving"]["colours"]
        assert server.classify("colours", {"image": RED}).json["results"][0]["name"] == "red"
        assert len(list((tmp_path / "engines").glob("colours-*/selection.json"))) == 1
    with Server(weights, tmp_path, engine="auto") as server:
        assert server.request("GET", "/readyz").json["serving"]["colours"] == serving
    measured = [line for line in server.log_lines() if "measuring" in line["message"]]
    assert len(measured) == 1


def test_scaled_decode_gives_nearly_the_same_scores(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    build_colour_package(weights, "whole", ["red", "green", "blue"])
    build_colour_package(weights, "scaled", ["red", "green", "blue"], scaled_decode=True)
    ramp = np.add.outer(np.arange(600), np.arange(800)) % 256
    picture = np.stack([ramp, ramp // 2, 255 - ramp], axis=2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95)
    image = base64.b64encode(buffer.getvalue()).decode()
    with Server(weights, tmp_path) as server:
        scores = [
            {
                row["name"]: row["score"]
                for row in server.classify(name, {"image": image}).json["results"]
            }
            for name in ("whole", "scaled")
        ]
    assert scores[0] != scores[1]
    assert all(abs(scores[0][name] - scores[1][name]) < 0.01 for name in scores[0])
