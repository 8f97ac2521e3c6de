"""Each code sample of the console and the documents, run unchanged."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT
from tests.support.images import solid
from tests.support.server import Server
from tests.support.tools import find_program

CLIENTS = PROJECT_ROOT / "app" / "console" / "static" / "clients"
SAMPLE_URL = "http://127.0.0.1:8000/imagenet/ImageClassification"

RUN: dict[str, list[list[str]]] = {
    "client.sh": [["sh", "client.sh"]],
    "client.py": [[sys.executable, "client.py"]],
    "Client.java": [["java", "Client.java"]],
    "Client.cs": [["mcs", "-r:System.Net.Http.dll", "Client.cs"], ["mono", "Client.exe"]],
    "client.mjs": [["node", "client.mjs"]],
    "client.go": [["go", "run", "client.go"]],
    "client.php": [["php", "client.php"]],
}


def test_every_client_file_has_a_command() -> None:
    assert {path.name for path in CLIENTS.iterdir()} == set(RUN)


@pytest.mark.parametrize("name", RUN)
def test_client_prints_the_right_class(server: Server, tmp_path: Path, name: str) -> None:
    for command in RUN[name]:
        find_program(command[0])
    text = (CLIENTS / name).read_text(encoding="utf-8")
    assert text.count(SAMPLE_URL) == 1
    url = f"http://127.0.0.1:{server.port}/colours/ImageClassification"
    (tmp_path / name).write_text(text.replace(SAMPLE_URL, url), encoding="utf-8")
    (tmp_path / "photo.jpg").write_bytes(solid((10, 250, 10), kind="JPEG"))
    for command in RUN[name]:
        ended = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
    assert ended.stdout.index("green") < ended.stdout.index("red")
