"""A running server whose weights folder changes."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.packages.changes import activate, remove_name
from app.packages.store import active_version
from app.serving.status_file import live_workers
from tests.support.commands import run_classifyd
from tests.support.images import BLUE, GREEN, RED
from tests.support.packages import build_colour_package
from tests.support.server import Answer, Server
from tests.support.waiting import wait_until

LABELS = {"1": ["red", "green", "blue"], "2": ["rot", "grün", "blau"]}
FACTORS = {"1": 10.0, "2": 5.0}
IMAGES = {"red": RED, "green": GREEN, "blue": BLUE}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    for version, labels in LABELS.items():
        build_colour_package(folder, "pets", labels, version, FACTORS[version])
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


@pytest.fixture
def own_server(weights: Path, state: Path) -> Iterator[Server]:
    with Server(weights, state) as running:
        yield running


def package(
    weights: Path, state: Path, *arguments: str, status: int = 0
) -> "subprocess.CompletedProcess[str]":
    folders = ("--weights-dir", weights, "--state-dir", state)
    return run_classifyd("package", *arguments, *folders, status=status)


def wait_for(server: Server, *, code: int = 0, version: str | None = None, name: str) -> Answer:
    """Send requests until the answer has this code and comes from this version."""
    answers: list[Answer] = []

    def is_expected() -> bool:
        answers.append(server.classify(name, {"image": RED}))
        found = (answers[-1].code, answers[-1].headers.get("X-Model-Version"))
        return found == (code, version)

    wait_until(is_expected, server)
    return answers[-1]


def test_under_load_every_answer_comes_from_exactly_one_version(
    weights: Path, state: Path, own_server: Server
) -> None:
    expected: dict[tuple[str | None, str], object] = {}
    for version in ("2", "1"):
        package(weights, state, "activate", "pets", version, "--wait")
        for colour, image in IMAGES.items():
            answer = own_server.classify("pets", {"image": image})
            assert answer.headers["X-Model-Version"] == version
            expected[version, colour] = answer.json["results"]
    over = threading.Event()

    def ask() -> list[tuple[str | None, str, object]]:
        seen: list[tuple[str | None, str, object]] = []
        while not over.is_set():
            for colour, image in IMAGES.items():
                answer = own_server.classify("pets", {"image": image})
                seen.append((answer.headers["X-Model-Version"], colour, answer.json["results"]))
        return seen

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        try:
            for version in ("2", "1", "2", "1", "2"):
                package(weights, state, "activate", "pets", version, "--wait")
        finally:
            over.set()
        seen = [answer for future in asking for answer in future.result()]
    assert {version for version, _, _ in seen} == {"1", "2"}
    assert all(expected[version, colour] == results for version, colour, results in seen)


def test_wait_returns_when_every_worker_serves_the_version(weights: Path, state: Path) -> None:
    with Server(weights, state, workers=2) as server, ThreadPoolExecutor(8) as pool:
        wait_until(lambda: len(live_workers(state, weights)) == 2, server)
        for version in ("2", "1"):
            ended = package(weights, state, "activate", "pets", version, "--wait", "--json")
            assert json.loads(ended.stdout)["workers"] == 2
            answers = list(pool.map(lambda _: server.classify("pets", {"image": RED}), range(40)))
            assert {answer.headers["X-Model-Version"] for answer in answers} == {version}
        ended = package(weights, state, "rollback", "pets", "--wait")
        assert "pets/2 is active and served by 2 workers" in ended.stdout
    ended = package(weights, state, "activate", "pets", "1", "--wait")
    assert "no running server uses this weights folder" in ended.stdout


def break_model(weights: Path) -> None:
    """Add a version 3 whose files match its manifest, but whose model does not."""
    folder = build_colour_package(weights, "pets", LABELS["1"], "3")
    four = build_colour_package(weights.parent / "other", "pets", ["a", "b", "c", "d"], "3")
    for file in ("labels.txt", "manifest.json"):
        shutil.copy(four / file, folder / file)


def test_a_version_that_cannot_be_served_is_rolled_back_and_reported(
    weights: Path, state: Path, own_server: Server
) -> None:
    break_model(weights)
    ended = package(weights, state, "activate", "pets", "3", "--wait", status=3)
    assert "output.classes: the model's output has shape (1, 3), expected (1, 4)" in ended.stderr
    assert "the activation is reverted: 1 is active" in ended.stderr
    assert active_version(weights / "pets").name == "1"
    wait_for(own_server, name="pets", version="1")

    activate(weights, "pets", "3")
    wait_until(lambda: bool(own_server.request("GET", "/readyz").json["pending"]), own_server)
    ready = own_server.request("GET", "/readyz")
    assert ready.status == 200
    assert ready.json["serving"]["pets"]["version"] == "1"
    assert ready.json["pending"]["pets"]["version"] == "3"
    assert "output.classes" in ready.json["pending"]["pets"]["reason"]
    assert own_server.classify("pets", {"image": RED}).headers["X-Model-Version"] == "1"
    assert any("output.classes" in line["message"] for line in own_server.log_lines())

    package(weights, state, "activate", "pets", "2", "--wait")
    assert own_server.request("GET", "/readyz").json["pending"] == {}


def test_a_restart_with_a_version_that_cannot_be_served_serves_the_previous_one(
    weights: Path, state: Path
) -> None:
    break_model(weights)
    activate(weights, "pets", "2")
    activate(weights, "pets", "3")
    with Server(weights, state) as server:
        assert server.classify("pets", {"image": RED}).headers["X-Model-Version"] == "2"
        assert server.request("GET", "/readyz").json["pending"]["pets"]["version"] == "3"


def test_deploy_names_can_be_added_and_removed_while_the_server_runs(
    weights: Path, state: Path, own_server: Server
) -> None:
    build_colour_package(weights, "cats", LABELS["1"])
    wait_for(own_server, name="cats", version="1")
    remove_name(weights, "cats")
    wait_for(own_server, name="cats", code=336001)
    assert own_server.request("GET", "/readyz").status == 200

    broken = build_colour_package(weights.parent / "other", "dogs", LABELS["1"])
    (broken / "model.pt").write_bytes(b"no model")
    shutil.copytree(broken.parent, weights / "dogs")
    answer = wait_for(own_server, name="dogs", code=336100)
    assert answer.headers["Retry-After"]
    ready = own_server.request("GET", "/readyz")
    assert ready.status == 503
    assert "model.pt" in ready.json["reasons"]["dogs"]
    assert own_server.classify("pets", {"image": RED}).code == 0


def test_a_missing_weights_folder_does_not_stop_serving(
    weights: Path, state: Path, own_server: Server
) -> None:
    weights.rename(weights.with_name("lost"))
    wait_until(lambda: "stay in place" in own_server.log_text(), own_server)
    assert own_server.classify("pets", {"image": RED}).code == 0
    weights.with_name("lost").rename(weights)
    activate(weights, "pets", "2")
    wait_for(own_server, name="pets", version="2")


def test_an_error_after_the_model_was_selected_names_its_version(server: Server) -> None:
    answer = server.classify("colours", {"image": "?"})
    assert answer.code == 336003
    assert answer.headers["X-Model-Version"] == "1"
    assert "X-Model-Version" not in server.classify("nobody", {"image": RED}).headers
