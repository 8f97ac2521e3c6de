"""The description of the API says what the server does."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.api.bodies import MAX_BASE64_CHARACTERS
from app.api.schemas import MAX_BATCH_IMAGES
from app.errors import REGISTRY
from app.imaging.header import MAX_SIDE_PX, MIN_SIDE_PX
from tests.api.test_failures import FAILURES
from tests.support.images import RED
from tests.support.server import Answer, Server

PATH = "/{deploy_name}/ImageClassification"


@pytest.fixture
def described(server: Server) -> dict[str, Any]:
    return server.request("GET", "/openapi.json").json


def _check(described: dict[str, Any], answer: Answer) -> None:
    responses = described["paths"][PATH]["post"]["responses"]
    schema = responses[str(answer.status)]["content"]["application/json"]["schema"]
    document = {"components": described["components"], **schema}
    Draft202012Validator(document).validate(answer.json)


def test_results_are_as_described(server: Server, rest_server: Server) -> None:
    for running in (server, rest_server):
        described = running.request("GET", "/openapi.json").json
        _check(described, running.classify("colours", {"image": RED}))


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.fault)
def test_errors_are_as_described(server: Server, rest_server: Server, failure: Any) -> None:
    for running in (server, rest_server):
        described = running.request("GET", "/openapi.json").json
        answer = running.request(failure.method, failure.path, failure.body, failure.headers)
        _check(described, answer)


def test_every_code_has_an_example(server: Server, rest_server: Server) -> None:
    for running in (server, rest_server):
        responses = running.request("GET", "/openapi.json").json["paths"][PATH]["post"]["responses"]
        shown = {
            example["value"].get("error_code", 0)
            for response in responses.values()
            for example in response["content"]["application/json"]["examples"].values()
        }
        assert shown == {0, *REGISTRY}


def test_example_request_is_answered_with_a_result(
    server: Server, described: dict[str, Any]
) -> None:
    body = described["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        answer = server.classify("colours", example["value"])
        assert answer.json["results"][0]["name"] == "red"


def test_example_results_are_those_of_the_demo(demo_server: Server) -> None:
    call = demo_server.request("GET", "/openapi.json").json["paths"][PATH]["post"]
    content = call["requestBody"]["content"]["application/json"]["examples"]
    (body,) = [example["value"] for example in content.values()]
    shown = call["responses"]["200"]["content"]["application/json"]["examples"]["result"]["value"]
    found = demo_server.classify("imagenet", body).json["results"]
    assert [each["name"] for each in found] == [each["name"] for each in shown["results"]]
    for each, expected in zip(found, shown["results"], strict=True):
        assert each["score"] == pytest.approx(expected["score"], abs=0.005)


def test_described_request_is_the_schema_that_validates(described: dict[str, Any]) -> None:
    schema = Draft202012Validator(described["components"]["schemas"]["ClassifyRequest"])
    assert schema.is_valid({"image": RED, "top_num": "5"})
    assert not schema.is_valid({"image": RED, "top_num": 0})


def test_the_texts_name_the_limits_of_the_code(described: dict[str, Any]) -> None:
    one, batch = (
        described["paths"][path]["post"]["description"] for path in (PATH, f"{PATH}/batch")
    )
    assert f"at most {MAX_BASE64_CHARACTERS:,} characters" in one
    assert f"sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} px" in one
    assert f"At most {MAX_BATCH_IMAGES} images" in batch


def test_readable_description_loads_nothing_from_elsewhere(server: Server) -> None:
    page = server.request("GET", "/docs")
    text = page.body.decode()
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    # Relative, so that it works under any path prefix.
    assert not re.findall(r"(?:src|href)=\"(?:[a-z]+:|/)", text)
    assert all(str(code) in text for code in REGISTRY)
    files = re.findall(r"(?:src|href)=\"(static/[^\"]+)", text)
    assert files
    for path in files:
        assert server.request("GET", f"/{path}").status == 200
    assert json.dumps("red square") not in text  # rendered, not dumped
    assert "red square" in text
