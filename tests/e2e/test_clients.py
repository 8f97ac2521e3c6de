"""Clients that callers have deployed: the vendor's SDK, curl, requests, urllib."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.images import PHOTOS, RED, solid, to_base64
from tests.support.server import Server
from tests.support.website import website


@pytest.fixture
def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/colours/ImageClassification"


@pytest.fixture
def token_url() -> Iterator[str]:
    """The address where the vendor's SDK gets a token before its first call."""
    token = {"access_token": "24.abc", "expires_in": 2592000, "scope": "brain_all_scope"}
    with website(json.dumps(token).encode(), "application/json") as origin:
        yield f"{origin}/oauth/2.0/token"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_vendor_sdk_reads_results_and_errors(
    url: str, token_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aip import EasyDL
    from aip.base import AipBase

    token_setting = next(name for name in vars(AipBase) if name.endswith("__accessTokenUrl"))
    monkeypatch.setattr(AipBase, token_setting, token_url)
    client = EasyDL("app", "key", "secret")
    answer = client.predictImage(url, solid((250, 10, 10)))
    assert answer["results"][0]["name"] == "red"
    assert client.predictImage(url, b"no image")["error_code"] == 336005


def test_curl_can_send_a_body_over_1_mib(url: str, tmp_path: Path) -> None:
    photo = (PHOTOS / "coffee.jpg").read_bytes()
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"image": to_base64(photo + b"\0" * 2**20)}))
    command = ["curl", "-s", "--data-binary", f"@{body}", url]
    answer = subprocess.run(command, capture_output=True, check=True).stdout
    assert len(json.loads(answer)["results"]) == 3


def test_requests_works_with_and_without_a_content_type(url: str) -> None:
    body = json.dumps({"image": RED, "top_num": 1})
    assert requests.post(url, data=body, timeout=30).json()["results"][0]["name"] == "red"
    assert requests.post(url, json={"image": RED}, timeout=30).json()["results"]


def test_urllib_can_send_json_with_a_form_content_type_and_another_host(url: str) -> None:
    request = urllib.request.Request(
        url, json.dumps({"image": RED}).encode(), {"Host": "aip.baidubce.com"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.load(response)["results"][0]["name"] == "red"
    assert request.get_header("Content-type") == "application/x-www-form-urlencoded"


def test_requests_can_stream_a_chunked_body(url: str) -> None:
    body = json.dumps({"image": RED}).encode()
    pieces = (body[start : start + 50] for start in range(0, len(body), 50))
    assert requests.post(url, data=pieces, timeout=30).json()["results"][0]["name"] == "red"
