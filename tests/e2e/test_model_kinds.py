"""Kinds of models: two or ten thousand classes, multi-label, greyscale, Chinese or equal names."""

import base64
import csv
import io
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from app.inference.engines import openvino
from tests.support.images import PHOTOS, RED
from tests.support.models import SIDE, Binary, classifyd, script, sharp, write_labels
from tests.support.packages import MeanColour
from tests.support.server import Server

KINDS: dict[str, tuple[torch.nn.Module, list[str], list[str]]] = {
    "two": (Binary(), ["blue", "red"], ["--positive", "red"]),
    "many": (sharp(10_000), [f"class {index}" for index in range(10_000)], []),
    "several": (MeanColour(10), ["red", "green", "blue"], ["--task", "multi_label"]),
    "grey": (sharp(3, 1), ["dark", "mid", "light"], ["--color", "GRAY"]),
    "chinese": (MeanColour(10), ["红色", "绿色", "蓝色"], []),
    "equal": (MeanColour(10), ["crane", "crane", "blue"], []),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("kinds")
    for name, (model, labels, options) in KINDS.items():
        result = classifyd(
            "package", "build", name, "1", "--weights-dir", folder / "weights",
            "--torchscript", script(model, folder / f"{name}.pt"),
            "--labels", write_labels(folder / f"{name}.txt", labels), "--resize", SIDE, *options,
        )  # fmt: skip
        assert result.exit_code == 0, result.exception
    with Server(folder / "weights", folder) as running:
        yield running


def results(server: Server, name: str, **fields: object) -> list[tuple[str, float]]:
    answer = server.classify(name, {"image": RED, **fields}).json
    return [(result["name"], result["score"]) for result in answer["results"]]


def test_every_kind_is_ready_with_its_worst_difference(kinds: Server) -> None:
    serving = kinds.request("GET", "/readyz").json["serving"]
    assert serving.keys() == KINDS.keys()
    assert all(0 <= entry["worst_difference"] <= 0.005 for entry in serving.values())


def test_one_output_gives_two_classes(kinds: Server) -> None:
    (first, high), (second, low) = results(kinds, "two")
    assert (first, second) == ("red", "blue")
    logit = (250 - 10) / 255 * 10
    assert high == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-4)
    assert high + low == pytest.approx(1)


def test_all_of_ten_thousand_classes_can_be_requested(kinds: Server) -> None:
    everything = results(kinds, "many", top_num=20_000)
    assert len({name for name, _ in everything}) == 10_000
    assert sum(score for _, score in everything) == pytest.approx(1, abs=1e-4)


def test_independent_scores_do_not_sum_to_one(kinds: Server) -> None:
    scores = dict(results(kinds, "several"))
    assert scores["red"] > 0.9
    assert scores["blue"] == pytest.approx(scores["green"])
    assert sum(scores.values()) > 1.5


def test_a_grey_model_sees_luma(kinds: Server) -> None:
    picture = Image.open(PHOTOS / "coffee.jpg").convert("L").resize((SIDE, SIDE), 2)
    grey = torch.from_numpy(np.asarray(picture).astype(np.float32) / 255)
    expected = sharp(3, 1)(grey[None, None]).softmax(1)[0].max().item()
    image = base64.b64encode((PHOTOS / "coffee.jpg").read_bytes()).decode()
    assert results(kinds, "grey", image=image)[0][1] == pytest.approx(expected, abs=0.005)


def test_chinese_labels_are_returned_unescaped(kinds: Server) -> None:
    answer = kinds.classify("chinese", {"image": RED})
    assert "红色".encode() in answer.body
    assert results(kinds, "chinese")[0][0] == "红色"


def test_classes_with_equal_names_are_both_returned(kinds: Server) -> None:
    assert [name for name, _ in results(kinds, "equal")] == ["crane", "crane", "blue"]


def photo(folder: Path, name: str, colour: tuple[int, int, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(buffer, "PNG")
    (folder / name).write_bytes(buffer.getvalue())


def weights(server: Server) -> Path:
    return server.log_path.parent / "weights"


def test_evaluate_counts_and_writes_a_self_contained_report(kinds: Server, tmp_path: Path) -> None:
    photo(tmp_path / "d/红色", "1.png", (250, 0, 0))
    photo(tmp_path / "d/红色", "2.png", (0, 0, 250))
    photo(tmp_path / "d/绿色", "3.png", (0, 250, 0))
    (tmp_path / "d/绿色/broken.png").write_bytes(b"no image")
    report = tmp_path / "report.html"
    result = classifyd(
        "evaluate", weights(kinds) / "chinese/1", tmp_path / "d", "--report", report,
        "--reference", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.exception
    printed = json.loads(result.output)
    assert (printed["images"], printed["failures"]) == (3, 1)
    assert printed["top1"] == pytest.approx(2 / 3)
    assert printed["top5"] == 1
    by_name = {entry["name"]: entry for entry in printed["classes"]}
    assert (by_name["红色"]["precision"], by_name["红色"]["recall"]) == (1, 0.5)
    assert by_name["蓝色"]["precision"] == 0
    assert printed["worst"][0]["predicted"] == "蓝色"
    assert printed["reference"]["same_top"] == 3
    assert printed["reference"]["largest_difference"] < 1e-4
    html = report.read_text(encoding="utf-8")
    assert "红色" in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    assert json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))["name"] == "chinese"


def test_evaluate_reads_several_labels_from_a_csv(kinds: Server, tmp_path: Path) -> None:
    photo(tmp_path, "yellow.png", (250, 250, 0))
    photo(tmp_path, "red.png", (250, 0, 0))
    (tmp_path / "d.csv").write_text("file,label\nyellow.png,red;green\nred.png,red\n")
    result = classifyd(
        "evaluate", weights(kinds) / "several/1", tmp_path / "d.csv",
        "--report", tmp_path / "r.html", "--json",
    )  # fmt: skip
    printed = json.loads(result.output)
    assert printed["top1"] == 1
    # The sigmoid of 0 is 0.5, so a black channel counts as predicted.
    assert {entry["name"]: entry["predicted"] for entry in printed["classes"]} == {
        "red": 2, "green": 2, "blue": 2,
    }  # fmt: skip


def test_evaluate_treats_equal_names_as_one_class(kinds: Server, tmp_path: Path) -> None:
    photo(tmp_path / "d/crane", "1.png", (250, 0, 0))
    photo(tmp_path / "d/crane", "2.png", (0, 250, 0))
    result = classifyd(
        "evaluate", weights(kinds) / "equal/1", tmp_path / "d",
        "--report", tmp_path / "r.html", "--json",
    )  # fmt: skip
    assert json.loads(result.output)["top1"] == 1


def test_evaluate_names_a_label_that_the_package_lacks(kinds: Server, tmp_path: Path) -> None:
    photo(tmp_path / "d/cranes", "1.png", (250, 0, 0))
    result = classifyd("evaluate", weights(kinds) / "equal/1", tmp_path / "d")
    assert "'cranes'" in str(result.exception)
    assert "similar are crane" in str(result.exception)


def test_evaluate_asks_a_server_compares_two_versions_and_writes_predictions(
    kinds: Server, tmp_path: Path
) -> None:
    photo(tmp_path / "d/crane", "1.png", (250, 0, 0))
    photo(tmp_path / "d/crane", "2.png", (0, 0, 250))
    photo(tmp_path / "d/blue", "3.png", (0, 0, 250))
    copy_version(weights(kinds) / "equal/1", tmp_path / "w/equal/1")
    copy_version(weights(kinds) / "equal/1", tmp_path / "w/equal/2")
    result = classifyd(
        "evaluate", tmp_path / "w/equal/1", tmp_path / "d", "--report", tmp_path / "r.html",
        "--url", f"http://127.0.0.1:{kinds.port}", "--compare", "2",
        "--predictions", tmp_path / "p.csv", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.exception
    printed = json.loads(result.output)
    assert printed["engine"] == f"http://127.0.0.1:{kinds.port}/equal/ImageClassification"
    assert printed["most_confused"] == [{"right": "crane", "predicted": "blue", "images": 1}]
    # Both labels have a precision or a recall of one half: F1 is 2/3 for each.
    assert printed["macro_f1"] == pytest.approx(2 / 3)
    compared = printed["comparison"]
    assert (compared["images"], compared["same_top"], compared["drop"]) == (3, 3, 0)
    assert compared["other"]["name"] == "equal/2"
    assert "Compared with equal/2" in (tmp_path / "r.html").read_text(encoding="utf-8")
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["label"], row["predicted"], row["correct"]) for row in rows] == [
        ("blue", "blue", "1"), ("crane", "crane", "1"), ("crane", "blue", "0"),
    ]  # fmt: skip


def test_evaluate_refuses_answers_of_another_version(kinds: Server, tmp_path: Path) -> None:
    photo(tmp_path / "d/crane", "1.png", (250, 0, 0))
    copy_version(weights(kinds) / "equal/1", tmp_path / "w/equal/2")
    url = f"http://127.0.0.1:{kinds.port}"
    result = classifyd("evaluate", tmp_path / "w/equal/2", tmp_path / "d", "--url", url)
    assert "serves version 1, not 2" in str(result.exception)


@pytest.mark.skipif(not openvino.is_installed(), reason="needs openvino")
def test_evaluate_computes_with_the_engine_of_the_settings(kinds: Server, tmp_path: Path) -> None:
    photo(tmp_path / "d/crane", "1.png", (250, 0, 0))
    result = classifyd(
        "evaluate", weights(kinds) / "equal/1", tmp_path / "d", "--report", tmp_path / "r.html",
        "--engine", "openvino", "--state-dir", tmp_path / "s", "--json",
    )  # fmt: skip
    assert json.loads(result.output)["engine"] == "openvino"


def copy_version(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    path = target / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest | {"version": target.name}), encoding="utf-8")
