"""Headers of clients that gunicorn would let change the path or the scheme."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import RED
from tests.support.server import Server


@pytest.fixture
def server_in_use(
    colour_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A server in whose environment there is a path, as left by another program."""
    monkeypatch.setenv("SCRIPT_NAME", "/colours")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with Server(colour_weights, tmp_path) as server:
        yield server


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"SCRIPT_NAME": "/colours"},
        {"SCRIPT_NAME": "/elsewhere"},
        {"Script-Name": "/colours"},
        {"PATH_INFO": "/nobody/ImageClassification"},
        {"X-Forwarded-Prefix": "/colours", "X-Script-Name": "/colours"},
        {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off"},
    ],
    ids=str,
)
def test_no_header_changes_the_path(server_in_use: Server, headers: dict[str, str]) -> None:
    answer = server_in_use.classify("colours", {"image": RED}, **headers)
    assert (answer.status, answer.code) == (200, 0)
    page = server_in_use.request("GET", "/docs", headers=headers)
    assert page.status == 200
    assert b"colours/static" not in page.body
