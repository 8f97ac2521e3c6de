"""Metrics of a real server, through deaths and reloads of its workers."""

import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.support.images import GREEN, RED
from tests.support.packages import build_slow_package
from tests.support.server import Server

WAIT_S = 30
BODIES = [
    {"image": RED},
    {"image": GREEN, "top_num": 1},
    {"image": "%%%"},
    {"image": "QUFBQQ=="},
    {},
    [],
]


def _samples(server: Server, name: str) -> dict[tuple[str, ...], float]:
    """The samples of one name, by the values of their labels in alphabetical order."""
    text = server.request("GET", "/metrics").body.decode()
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def _ask(server: Server, rounds: int) -> Counter[tuple[str, str]]:
    """Send every kind of body; count the answers that came, by code."""
    counted: Counter[tuple[str, str]] = Counter()

    def one(index: int) -> None:
        answer = server.classify("colours", BODIES[index % len(BODIES)])
        counted[(str(answer.code), "colours")] += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(rounds * len(BODIES))))
    return counted


def test_counts_are_those_of_the_clients_across_a_death_and_a_reload(
    colour_weights: Path, tmp_path: Path
) -> None:
    with Server(colour_weights, tmp_path, workers=2) as server:
        _wait_until(lambda: _samples(server, "classifyd_worker_starts_total") == {(): 2})
        counted = _ask(server, 10)
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        _wait_until(lambda: _samples(server, "classifyd_worker_starts_total") == {(): 3})
        counted += _ask(server, 10)
        before = set(server.worker_pids())
        server.running.send_signal(signal.SIGHUP)
        _wait_until(lambda: before.isdisjoint(server.worker_pids()))
        counted += _ask(server, 10)
        assert _samples(server, "classifyd_requests_total") == dict(counted)
        durations = _samples(server, "classifyd_request_duration_seconds_count")
        assert durations == {("colours",): counted.total()}
        results = counted["0", "colours"]
        assert _samples(server, "classifyd_top_score_count") == {("colours",): results}
        top = _samples(server, "classifyd_top_class_total")
        assert top == {("colours", "red"): results / 2, ("colours", "green"): results / 2}
        stages = _samples(server, "classifyd_stage_duration_seconds_count")
        assert stages["colours", "infer"] == results
        assert _samples(server, "classifyd_image_batch_size_count") == {("colours",): results}
        files = list((tmp_path / "metrics").glob("*/*.db"))
        assert len({re.sub(r".*_", "", file.stem) for file in files}) <= 4


def test_made_up_deploy_names_share_one_series(server: Server) -> None:
    for index in range(5):
        server.classify(f"name{index}", {"image": RED})
    server.request("GET", "/_unknown/ImageClassification")
    names = {labels[1] for labels in _samples(server, "classifyd_requests_total")}
    assert names <= {"_unknown", "colours", "farben"}
    assert _samples(server, "classifyd_requests_total")["336001", "_unknown"] >= 6


def test_load_and_shed_requests_are_shown(tmp_path: Path) -> None:
    weights, state = tmp_path / "weights", tmp_path / "state"
    state.mkdir()
    build_slow_package(weights, "slow")
    settings = {"max_in_flight": 4, "inference_threads": 1, "deadline_ms": 60_000}
    seen = threading.Event()
    with Server(weights, state, **settings) as server, ThreadPoolExecutor(5) as pool:

        def ask_until_seen(_: int) -> list[int]:
            codes = []
            while not seen.is_set():
                codes.append(server.classify("slow", {"image": RED}).code)
            return codes

        asking = [pool.submit(ask_until_seen, index) for index in range(5)]
        try:
            _wait_until(lambda: _samples(server, "classifyd_requests_in_flight")[()] > 0)
            _wait_until(lambda: _samples(server, "classifyd_queue_depth")[()] > 0)
            _wait_until(lambda: bool(_samples(server, "classifyd_requests_shed_total")))
        finally:
            seen.set()
        codes = [code for future in asking for code in future.result()]
        assert set(codes) == {0, 336100}
        shed = _samples(server, "classifyd_requests_shed_total")
        assert shed == {("slow", "busy"): codes.count(336100)}
        _wait_until(lambda: _samples(server, "classifyd_requests_in_flight")[()] == 0)
        serving = {("slow", "cpu", "torchscript", "1"): 1}
        assert _samples(server, "classifyd_model_info") == serving
        (worker,) = server.worker_pids()
        shown = _samples(server, "classifyd_worker_resident_memory_bytes")["0",]
        assert 0.5 < shown / psutil.Process(worker).memory_info().rss < 2


def test_folders_of_ended_servers_are_removed_and_those_of_running_ones_kept(
    colour_weights: Path, tmp_path: Path
) -> None:
    with Server(colour_weights, tmp_path) as first:
        (kept,) = (tmp_path / "metrics").glob("*/")
        first.classify("colours", {"image": RED})
        with Server(colour_weights, tmp_path) as second:
            assert _samples(second, "classifyd_requests_total") == {}
            assert kept.exists()
            assert len(list((tmp_path / "metrics").glob("*/"))) == 2
        assert _samples(first, "classifyd_requests_total") == {("0", "colours"): 1}
        first.kill()
        with Server(colour_weights, tmp_path):
            assert not kept.exists()
            assert len(list((tmp_path / "metrics").glob("*/"))) == 1
