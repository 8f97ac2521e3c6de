"""/openapi.json in other tools: a tester that generates requests, and a generated client."""

import json
import subprocess
from pathlib import Path

from tests.support.images import PHOTOS, to_base64
from tests.support.server import Server
from tests.support.tools import find_program

SCHEMATHESIS = find_program("schemathesis")
CLIENT_GENERATOR = find_program("openapi-python-client")

CONFIGURATION = """
# No schema can express that a string is an image: others are 336003 to 336005.
[[operations]]
include-method = "POST"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "413", "415"]
"""
STATUS_CHECKS = ["negative_data_rejection", "unsupported_method"]
"""These check only the status, and ``compat`` answers 200 to everything on the path of a call,
including a wrong method, because deployed clients need it (docs/errors.md)."""


def _run_schemathesis(server: Server, folder: Path, *options: str, examples: int = 100) -> None:
    config = folder / "schemathesis.toml"
    config.write_text(CONFIGURATION, encoding="utf-8")
    command = [SCHEMATHESIS, "--config-file", str(config), "run"]
    address = f"http://127.0.0.1:{server.port}/openapi.json"
    bounds = ["--seed=1", "--request-timeout=60", f"--max-examples={examples}"]
    ended = subprocess.run(
        [*command, address, *bounds, "--continue-on-failure", *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-4000:]
    assert "No issues found" in ended.stdout


def test_generated_requests_are_answered_as_described_in_rest(
    rest_server: Server, tmp_path: Path
) -> None:
    _run_schemathesis(rest_server, tmp_path)


def test_generated_requests_are_answered_as_described_in_compat(
    server: Server, tmp_path: Path
) -> None:
    _run_schemathesis(server, tmp_path, "--exclude-checks", ",".join(STATUS_CHECKS))


def test_description_declares_which_paths_need_an_access_token(
    colour_weights: Path, tmp_path: Path
) -> None:
    from app.access_tokens import add_token

    settings = {"access_tokens": "on", "http_status": "rest"}
    with Server(colour_weights, tmp_path, **settings) as server:
        described = server.request("GET", "/openapi.json").json
        assert described["security"] == [{"bearer": []}, {"query": []}]
        open_paths = {
            path
            for path, item in described["paths"].items()
            for operation in item.values()
            if operation.get("security") == []
        }
        assert open_paths == {"/healthz", "/readyz", "/openapi.json"}
        token = add_token(tmp_path / "tokens.json", "tester")
        bearer = f"Authorization: Bearer {token}"
        _run_schemathesis(server, tmp_path, "--header", bearer, examples=30)


CALL = """
import sys
from generated import Client
from generated.api.classification import classify, classify_batch
from generated.models import (
    BatchRequest, ClassifyAnswer, ClassifyBatchDeployName, ClassifyDeployName,
    ClassifyRequest, Error,
)

url, image = sys.argv[1], sys.stdin.read()
one, many = ClassifyDeployName.IMAGENET, ClassifyBatchDeployName.IMAGENET
with Client(base_url=url) as client:
    answer = classify.sync(one, client=client, body=ClassifyRequest(image, top_num=2))
    assert isinstance(answer, ClassifyAnswer)
    print([result.name for result in answer.results])
    wrong = classify.sync(one, client=client, body=ClassifyRequest("%%%"))
    assert isinstance(wrong, Error)
    print(int(wrong.error_code), wrong.log_id > 0)
    both = classify_batch.sync(many, client=client, body=BatchRequest([image, "%%%"], top_num=1))
    first, second = both.answers
    print(first.results[0].name, int(second.error_code))
"""


def test_client_is_generated_without_a_warning_and_works(
    demo_server: Server, tmp_path: Path
) -> None:
    described = tmp_path / "openapi.json"
    described.write_bytes(demo_server.request("GET", "/openapi.json").body)
    config = tmp_path / "config.json"
    # Formatting the generated code needs another tool.
    config.write_text(json.dumps({"post_hooks": []}), encoding="utf-8")
    out = ["--output-path", str(tmp_path / "generated"), "--meta", "none"]
    made = subprocess.run(
        [CLIENT_GENERATOR, "generate", "--path", str(described), "--config", str(config), *out],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "warning" not in (made.stdout + made.stderr).lower()
    photo = to_base64((PHOTOS / "coffee.jpg").read_bytes())
    python = Path(CLIENT_GENERATOR).resolve().with_name("python")
    ended = subprocess.run(
        [python, "-c", CALL, f"http://127.0.0.1:{demo_server.port}"],
        cwd=tmp_path,
        input=photo,
        capture_output=True,
        text=True,
    )
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        "['espresso', 'cup']",
        "336003 True",
        "espresso 336003",
    ]
