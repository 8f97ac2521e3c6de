"""The first steps of the README and what it leads to, as a newcomer pastes them."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT
from tests.support.server import Server

pytestmark = pytest.mark.weights

ADDRESS = "http://127.0.0.1:8000"
URL = f"{ADDRESS}/imagenet/ImageClassification"


def _block(document: str, language: str, first_words: str) -> str:
    text = (PROJECT_ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(next(block for block in blocks if block.startswith(first_words)))


def _run_here(demo_server: Server, command: str) -> str:
    address = f"http://127.0.0.1:{demo_server.port}"
    finished = subprocess.run(
        ["bash", "-c", command.replace(ADDRESS, address)],
        cwd=PROJECT_ROOT,
        env=os.environ | {"URL": URL.replace(ADDRESS, address)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return finished.stdout


def test_curl_command_gives_the_answer_shown_below_it(demo_server: Server) -> None:
    answer = json.loads(_run_here(demo_server, _block("README.md", "sh", "printf")))
    told = json.loads(_block("README.md", "json", '{"log_id"'))
    assert list(answer) == list(told)
    assert [entry["name"] for entry in answer["results"]] == [
        entry["name"] for entry in told["results"]
    ]
    for entry, expected in zip(answer["results"], told["results"], strict=True):
        assert entry["score"] == pytest.approx(expected["score"], abs=0.005)


def test_invalid_request_is_answered_as_shown(demo_server: Server) -> None:
    command = _block("docs/errors.md", "sh", "curl -si")
    answered = _run_here(demo_server, command).splitlines()
    told = _block("docs/errors.md", "text", "HTTP/1.1").splitlines()
    for line in told:
        assert re.sub(r"\d{16}", "0", line) in [re.sub(r"\d{16}", "0", one) for one in answered]


def test_server_with_access_tokens_answers_only_with_a_token(tmp_path: Path) -> None:
    script = _block("docs/deploy.md", "sh", "mkdir -p var")
    script = script.replace(".venv/bin", str(Path(sys.executable).parent)) + 'echo "$TOKEN"'
    made = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"CLASSIFYD_STATE_DIR": str(tmp_path / "var")},
        capture_output=True,
        text=True,
        check=True,
    )
    token = made.stdout.strip()
    settings = tomllib.loads(_block("docs/deploy.md", "toml", "bind"))
    files = {key: tmp_path / value for key, value in settings.items() if value.startswith("var/")}
    with _Locked(PROJECT_ROOT / "weights", tmp_path / "var", **settings | files) as server:
        line = _block("docs/deploy.md", "sh", "printf").replace(
            "https://localhost:8000", f"https://localhost:{server.port}"
        )
        line = line.replace("var/cert.pem", str(tmp_path / "var" / "cert.pem"))
        answers = [
            subprocess.run(
                ["bash", "-c", line],
                cwd=PROJECT_ROOT,
                env=os.environ | {"TOKEN": given},
                capture_output=True,
                check=True,
            ).stdout
            for given in (token, "wrong")
        ]
        greeting = server.stdout_path.read_text()
    assert json.loads(answers[0])["results"][0]["name"] == "espresso"
    assert json.loads(answers[1])["error_code"] == 337000
    for said in ("https://127.0.0.1:", 'Bearer $TOKEN"', "classifyd.log", "Or in a browser:"):
        assert said in greeting


class _Locked(Server):
    """A server that speaks TLS."""

    def wait_until_ready(self, path: str = "/healthz") -> None:
        """Wait for its message, as the plain HTTP of a probe would fail."""
        self.wait_for_port()
