"""The README's first steps, as a newcomer pastes them."""

import json
import re
import subprocess
import sys

import pytest

from app.settings import PROJECT_ROOT
from tests.support.server import Server

pytestmark = pytest.mark.weights

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


def _block(language: str, first_words: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return str(next(block for block in blocks if block.startswith(first_words)))


def _run_here(demo_server: Server, command: list[str]) -> str:
    address = f"http://127.0.0.1:{demo_server.port}"
    local = [part.replace(ADDRESS, address) for part in command]
    finished = subprocess.run(
        local, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return finished.stdout


def test_curl_line_gives_the_answer_below_it(demo_server: Server) -> None:
    answer = json.loads(_run_here(demo_server, ["bash", "-c", _block("sh", "printf")]))
    told = json.loads(_block("json", '{"log_id"'))
    assert list(answer) == list(told)
    assert [entry["name"] for entry in answer["results"]] == [
        entry["name"] for entry in told["results"]
    ]
    for entry, expected in zip(answer["results"], told["results"], strict=True):
        assert entry["score"] == pytest.approx(expected["score"], abs=0.005)


def test_python_example_names_the_photo(demo_server: Server) -> None:
    assert (
        _run_here(demo_server, [sys.executable, "-c", _block("python", "import")]) == "espresso\n"
    )
