"""Heat maps: which parts of an image the score of a class depends on."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from app.api.schemas import HEATMAP_ANSWER
from app.errors import FailedError
from app.inference.explanation import BOXES
from tests.support.images import PHOTOS, RED, to_base64
from tests.support.models import classifyd
from tests.support.server import Answer, Server

PATH = "/colours/ImageClassification/heatmap"


def _ask(server: Server, payload: object, path: str = PATH) -> Answer:
    return server.request("POST", path, json.dumps(payload).encode())


def _picture(colour: tuple[int, int, int], box: tuple[int, int, int, int], **options: Any) -> str:
    """A grey picture of 120 x 60 px with one coloured box (left, top, right, bottom)."""
    picture = Image.new("RGB", (120, 60), (90, 90, 90))
    picture.paste(colour, box)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95, **options)
    return to_base64(buffer.getvalue())


def _hottest(heat: list[list[float]]) -> tuple[bool, bool]:
    """Whether the 1 of a heat map is in its lower half, and in its right half."""
    row = next(index for index, line in enumerate(heat) if 1 in line)
    return row >= len(heat) / 2, heat[row].index(1) >= len(heat[row]) / 2


GREEN_AT_THE_RIGHT = (90, 30, 120, 60)


def test_what_makes_the_top_class_is_hot(server: Server) -> None:
    answer = _ask(server, {"image": _picture((90, 250, 90), GREEN_AT_THE_RIGHT)})
    found = answer.json
    Draft202012Validator(HEATMAP_ANSWER).validate(found)
    assert list(found) == ["log_id", "name", "score", "rows", "cols", "heat"]
    assert found["name"] == "green"
    heat = found["heat"]
    assert (len(heat), {len(row) for row in heat}) == (found["rows"], {found["cols"]})
    assert _hottest(heat) == (True, True)
    # The left half and the top are of no importance.
    assert max(max(row[: found["cols"] // 2]) for row in heat) == 0
    assert max(heat[0]) == 0


def test_score_is_that_of_the_endpoint_for_the_classes(server: Server) -> None:
    photo = to_base64((PHOTOS / "coffee.jpg").read_bytes())
    results = server.classify("colours", {"image": photo}).json["results"]
    for result in results:
        found = _ask(server, {"image": photo, "label": result["name"]}).json
        assert {key: found[key] for key in ("name", "score")} == result
    top = _ask(server, {"image": photo, "label": None, "top_num": 0}).json
    assert {key: top[key] for key in ("name", "score")} == results[0]


def test_map_is_that_of_the_upright_image(server: Server) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    found = _ask(server, {"image": _picture((90, 250, 90), GREEN_AT_THE_RIGHT, exif=exif)}).json
    assert _hottest(found["heat"]) == (True, False)


def test_part_that_the_model_does_not_see_is_0(demo_server: Server) -> None:
    """The demo sees the middle 7/8 of the shorter side, which is 60 of 120 px here."""
    image = _picture((90, 250, 90), (30, 0, 90, 60))
    found = _ask(demo_server, {"image": image}, PATH.replace("colours", "imagenet")).json
    assert (found["rows"], found["cols"]) == (16, 32)
    columns = [max(row[index] for row in found["heat"]) for index in range(32)]
    assert max(columns[:9]) == max(columns[23:]) == 0 < max(columns)
    assert max(found["heat"][0]) == max(found["heat"][-1]) == 0


@pytest.mark.parametrize(
    ("payload", "code", "detail"),
    [
        ([], 336001, "the body is an array, an object wanted"),
        ({}, 336006, "image: absent, null or empty, a base64 string wanted"),
        ({"image": RED, "label": 7}, 336001, "label: 7, a label of the model wanted"),
        (
            {"image": "%", "label": "purple"},
            336001,
            "label: no class of this model has it; send one of its labels, as in results, "
            "or none for the top class",
        ),
        ({"image": "%"}, 336003, None),
        ({"image": "QUFBQQ=="}, 336005, None),
    ],
    ids=str,
)
def test_failures_are_those_of_the_other_endpoints(
    server: Server, rest_server: Server, payload: object, code: int, detail: str | None
) -> None:
    answer = _ask(server, payload)
    assert (answer.status, answer.code) == (200, code)
    assert detail in (None, answer.detail)
    assert _ask(rest_server, payload).status >= 400
    assert _ask(server, payload, PATH.replace("colours", "nobody")).code == 336001
    assert server.request("GET", PATH).code == 336001


def test_it_is_counted_and_logged(server: Server) -> None:
    answer = _ask(server, {"image": RED, "label": "blue"})
    line = server.log_line(answer.json["log_id"])
    assert (line["path"], line["top"]) == (PATH, "blue")
    assert line["image"] == f"png 64x48, {1 + len(BOXES)} passes"
    assert "heatmap" in line["stages_ms"]
    assert "heatmap;dur=" in answer.headers["Server-Timing"]
    metrics = server.request("GET", "/metrics").body.decode()
    series = 'classifyd_stage_duration_seconds_count{deploy_name="colours",stage="heatmap"}'
    assert series in metrics


def test_command_draws_what_a_server_and_a_package_say_alike(
    server: Server, colour_weights: Path, tmp_path: Path
) -> None:
    photo, drawn = PHOTOS / "chelsea.png", tmp_path / "heat.png"
    url = f"http://127.0.0.1:{server.port}/colours/ImageClassification"
    found = []
    for source in (("--url", url), ("--package", colour_weights / "colours/1")):
        drawn.unlink(missing_ok=True)
        ended = classifyd("explain", photo, *source, "--label", "green", "-o", drawn, "--json")
        answer = json.loads(ended.stdout)
        found.append((answer["name"], answer["rows"], answer["cols"], round(answer["score"], 4)))
        with Image.open(drawn) as heat, Image.open(photo) as original:
            assert heat.size == original.size
    assert found[0] == found[1]
    wrong = classifyd("explain", photo, "--url", url, "--label", "x", "-o", drawn)
    assert isinstance(wrong.exception, FailedError)
    assert "336001 Invalid Argument: label: no class of this model has it" in str(wrong.exception)
