"""The README's first steps, as a newcomer pastes them."""

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


def test_wrong_request_is_explained_as_told(demo_server: Server) -> None:
    answered = _run_here(demo_server, ["bash", "-c", _block("sh", "curl -si")]).splitlines()
    told = _block("text", "HTTP/1.1").splitlines()
    for line in told:
        assert re.sub(r"\d{16}", "0", line) in [re.sub(r"\d{16}", "0", one) for one in answered]


def test_locked_server_answers_who_has_the_token(tmp_path: Path) -> None:
    made = subprocess.run(
        [
            "bash",
            "-c",
            _block("sh", "mkdir -p var").replace(".venv/bin", str(Path(sys.executable).parent)),
        ],
        cwd=tmp_path,
        env=os.environ | {"CLASSIFYD_STATE_DIR": str(tmp_path / "var")},
        capture_output=True,
        text=True,
        check=True,
    )
    token = made.stdout.strip()
    settings = tomllib.loads(_block("toml", "bind"))
    files = {key: tmp_path / value for key, value in settings.items() if value.startswith("var/")}
    with _Locked(PROJECT_ROOT / "weights", tmp_path / "var", **settings | files) as server:
        line = _block("sh", 'printf \'{"image":"%s","top_num":1}\'').replace(
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
        """Wait until it has said so."""
        self.wait_for_port()
