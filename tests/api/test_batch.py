"""Several images in one call, and calls from web pages of other origins."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from app.api.schemas import BATCH_ANSWER, MAX_BATCH_IMAGES
from app.errors import REGISTRY
from tests.support.images import BLUE, GREEN, RED
from tests.support.server import Answer, Server

PATH = "/colours/ImageClassification/batch"


def _batch(server: Server, payload: object) -> Answer:
    return server.request("POST", PATH, json.dumps(payload).encode())


def test_each_image_has_its_answer_in_order(server: Server) -> None:
    answer = _batch(server, {"images": [RED, GREEN, BLUE] * 10, "top_num": 1})
    names = [entry["results"][0]["name"] for entry in answer.json["answers"]]
    assert names == ["red", "green", "blue"] * 10
    assert {len(entry["results"]) for entry in answer.json["answers"]} == {1}
    alone = server.classify("colours", {"image": RED, "top_num": 1}).json["results"]
    assert answer.json["answers"][0]["results"] == alone
    assert server.log_line(answer.json["log_id"])["image"] == "30 images, 0 failed"


def test_wrong_image_spoils_no_other(server: Server) -> None:
    wrong = {336001: 5, 336003: "%%%", 336004: "A" * 4194308, 336005: "QUFBQQ==", 336006: ""}
    images = [image for bad in wrong.values() for image in (bad, GREEN)]
    answers = _batch(server, {"images": images}).json["answers"]
    assert [entry.get("error_code", 0) for entry in answers[::2]] == list(wrong)
    for code, entry in zip(wrong, answers[::2], strict=True):
        assert entry["error_msg"] == REGISTRY[code].error_msg
        assert entry["error_detail"].startswith("image: " if code != 336005 else "")
    assert all(entry["results"][0]["name"] == "green" for entry in answers[1::2])
    assert not any("log_id" in entry for entry in answers)


def test_answer_is_as_described(server: Server) -> None:
    Draft202012Validator(BATCH_ANSWER).validate(_batch(server, {"images": [RED, 1, None]}).json)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ([], 336001),
        ({}, 336006),
        ({"images": []}, 336006),
        ({"images": RED}, 336001),
        ({"images": [RED] * (MAX_BATCH_IMAGES + 1)}, 336001),
        ({"images": [RED], "top_num": 0}, 336001),
    ],
    ids=str,
)
def test_call_that_cannot_be_read_fails_as_a_whole(
    server: Server, rest_server: Server, payload: object, code: int
) -> None:
    answer = _batch(server, payload)
    assert (answer.status, answer.code) == (200, code)
    assert _batch(rest_server, payload).status == 400
    assert list(answer.json) == ["error_code", "error_msg", "log_id"]


def test_most_images_are_answered(server: Server) -> None:
    answers = _batch(server, {"images": [RED] * MAX_BATCH_IMAGES}).json["answers"]
    assert len(answers) == MAX_BATCH_IMAGES


def test_images_are_counted_by_code(server: Server) -> None:
    _batch(server, {"images": [RED, "%%%"]})
    metrics = server.request("GET", "/metrics").body.decode()
    assert 'classifyd_batch_images_total{code="336003",deploy_name="colours"}' in metrics


ORIGIN = {"Origin": "https://a.example"}
PREFLIGHT = ORIGIN | {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,authorization",
}
CORS = "Access-Control-Allow-Origin"


def test_other_origins_may_not_call_by_default(server: Server) -> None:
    for method, body in (("OPTIONS", None), ("POST", b"{}")):
        answer = server.request(method, "/colours/ImageClassification", body, PREFLIGHT)
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


def test_allowed_origin_may_call_and_read_errors(colour_weights: Path, tmp_path: Path) -> None:
    origins = "https://a.example,http://b.example:8080"
    with Server(colour_weights, tmp_path, cors_origins=origins, access_tokens="on") as server:
        for path in ("/colours/ImageClassification", PATH):
            preflight = server.request("OPTIONS", path, None, PREFLIGHT)
            assert preflight.status == 200
            assert preflight.headers[CORS] == "https://a.example"
            assert preflight.headers["Access-Control-Allow-Methods"] == "POST"
            assert "Content-Type" in preflight.headers["Access-Control-Allow-Headers"]
            answer = server.request("POST", path, b"{}", ORIGIN)
            assert (answer.code, answer.headers[CORS]) == (337000, "https://a.example")
            assert "X-Error-Detail" in answer.headers["Access-Control-Expose-Headers"]
            assert "Origin" in answer.headers["Vary"]
            other = server.request("POST", path, b"{}", {"Origin": "https://evil.example"})
            assert CORS not in other.headers
        assert CORS not in server.request("GET", "/console/models", None, ORIGIN).headers
