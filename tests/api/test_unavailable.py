"""336000 and 336100: provoked with models that fail or take their time."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.images import GREEN, RED
from tests.support.packages import (
    build_colour_package,
    build_failing_package,
    build_lying_package,
    build_slow_package,
)
from tests.support.server import Server


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    build_colour_package(folder, "colours", ["red", "green", "blue"])
    build_slow_package(folder, "slow")
    build_failing_package(folder, "failing")
    broken = build_colour_package(folder, "broken", ["red", "green", "blue"])
    (broken / "labels.txt").write_text("red\ngreen\n")
    return folder


def test_model_failure_is_336000_for_the_guilty_request_alone(
    weights: Path, tmp_path: Path
) -> None:
    with Server(weights, tmp_path) as server:
        answer = server.classify("failing", {"image": RED})
        assert (answer.status, answer.code) == (200, 336000)
        assert "Traceback" in "".join(
            line.get("traceback", "")
            for line in server.log_lines()
            if str(answer.json["log_id"]) in line["message"]
        )
        assert server.classify("failing", {"image": GREEN}).code == 0
        assert server.classify("colours", {"image": RED}).code == 0


def test_score_that_is_no_probability_is_336000(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    build_lying_package(weights, "liar")
    with Server(weights, tmp_path) as server:
        scores = [row["score"] for row in server.classify("liar", {"image": GREEN}).json["results"]]
        assert sum(scores) == pytest.approx(1)
        answer = server.classify("liar", {"image": RED})
        assert (answer.status, answer.code) == (200, 336000)
        assert "is declared as probabilities, but a score is" in answer.detail
        body = json.dumps({"images": [GREEN, RED]}).encode()
        batch = server.request("POST", "/liar/ImageClassification/batch", body).json["answers"]
        assert ["error_code" in entry for entry in batch] == [False, True]


def test_broken_package_is_unavailable_while_others_go_on(weights: Path, tmp_path: Path) -> None:
    with Server(weights, tmp_path) as server:
        answer = server.classify("broken", {"image": RED})
        assert answer.code == 336100
        assert int(answer.headers["Retry-After"]) > 0
        assert server.classify("colours", {"image": RED}).code == 0
        ready = server.request("GET", "/readyz")
        assert ready.status == 503
        assert ready.json["reasons"]["broken"].startswith("broken/1/labels.txt: ")


def test_readiness_shows_no_absolute_path(tmp_path: Path) -> None:
    weights = tmp_path / "weights of 2026"
    build_colour_package(weights, "colours", ["red", "green", "blue"])
    # The tuning process reports this one, as a line of text.
    build_colour_package(weights, "crowded", ["red", "green", "blue", "violet"])
    (build_colour_package(weights, "empty", ["red", "green", "blue"]) / "model.pt").unlink()
    (weights / "none").mkdir()
    with Server(weights, tmp_path, engine="auto") as server:
        reasons = server.request("GET", "/readyz").json["reasons"]
        assert reasons.keys() == {"crowded", "empty", "none"}
        for name, reason in reasons.items():
            assert name in reason
            assert not re.search(r"(?<![\w.])/\w", reason), reason
            assert str(tmp_path) not in reason
        # The log and the greeting are the operator's, and say where the files are.
        assert str(weights / "empty/1/manifest.json") in server.log_text()


def test_requests_beyond_the_bound_are_refused_at_once(weights: Path, tmp_path: Path) -> None:
    settings = {"max_in_flight": 2, "inference_threads": 1, "http_status": "rest"}
    with Server(weights, tmp_path, **settings) as server, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.classify("slow", {"image": RED}), range(8)))
        refused = [answer for answer in answers if answer.code == 336100]
        assert len(refused) == 6
        assert all(answer.status == 503 for answer in refused)
        assert all(answer.headers["Retry-After"] for answer in refused)
        assert sum(answer.code == 0 for answer in answers) == 2


def test_work_past_its_deadline_is_refused_and_never_computed(
    weights: Path, tmp_path: Path
) -> None:
    settings = {"deadline_ms": 200, "inference_threads": 1}
    with Server(weights, tmp_path, **settings) as server, ThreadPoolExecutor(12) as pool:
        # Together they take many times the deadline, however fast the machine is now.
        answers = list(pool.map(lambda _: server.classify("slow", {"image": RED}), range(12)))
        late = [answer for answer in answers if answer.code == 336100]
        assert 0 < len(late) < len(answers)
        for answer in late:
            assert "infer" not in server.log_line(answer.json["log_id"])["stages_ms"]


def test_health_is_answered_while_every_place_is_taken(weights: Path, tmp_path: Path) -> None:
    settings = {"max_in_flight": 4, "inference_threads": 1}
    with Server(weights, tmp_path, **settings) as server, ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(server.classify, "slow", {"image": RED}) for _ in range(4)]
        time.sleep(0.2)
        assert server.request("GET", "/healthz").status == 200
        assert "slow" in server.request("GET", "/readyz").json["serving"]
        assert not all(future.done() for future in busy)


def test_error_detail_of_a_refusal_is_json(weights: Path, tmp_path: Path) -> None:
    with Server(weights, tmp_path, error_detail="body") as server:
        body = server.classify("broken", {"image": RED}).json
        assert json.dumps(body["error_detail"]).isascii()
