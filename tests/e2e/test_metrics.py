"""Metrics of a real server while its workers are killed and reloaded."""

import json
import os
import re
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Self

import psutil
from prometheus_client.parser import text_string_to_metric_families

from app.access_tokens import add_token
from tests.support.images import GREEN, RED
from tests.support.packages import build_slow_package
from tests.support.server import Server
from tests.support.waiting import wait_until

BODIES = [
    {"image": RED},
    {"image": GREEN, "top_num": 1},
    {"image": "%%%"},
    {"image": "QUFBQQ=="},
    {},
    [],
]


def _samples(server: Server, name: str, token: str = "") -> dict[tuple[str, ...], float]:
    """The samples of one name, keyed by their label values in alphabetical order of the labels."""
    answer = server.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 200, answer.body
    text = answer.body.decode()
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def _ask(server: Server, rounds: int) -> Counter[tuple[str, str]]:
    """Send every kind of body; count the answers by code."""
    counted: Counter[tuple[str, str]] = Counter()

    def one(index: int) -> None:
        answer = server.classify("colours", BODIES[index % len(BODIES)])
        counted[(str(answer.code), "colours")] += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(rounds * len(BODIES))))
    return counted


def test_metrics_match_the_clients_counts_across_a_kill_and_a_reload(
    colour_weights: Path, tmp_path: Path
) -> None:
    with Server(colour_weights, tmp_path, workers=2) as server:
        wait_until(lambda: _samples(server, "classifyd_worker_starts_total") == {(): 2})
        counted = _ask(server, 10)
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: _samples(server, "classifyd_worker_starts_total") == {(): 3})
        counted += _ask(server, 10)
        before = set(server.worker_pids())
        server.running.send_signal(signal.SIGHUP)
        wait_until(lambda: before.isdisjoint(server.worker_pids()))
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


class Clients:
    """Clients that send requests until the end of the block, and count the answers.

    Attributes:
        codes: answers of single calls, by code.
        images: images of batch calls, by code.
        batches: batch calls that were answered.
        broken: calls that got no answer.
    """

    def __init__(self, server: Server, tokens: dict[str, str]) -> None:
        self.codes: Counter[str] = Counter()
        self.images: Counter[str] = Counter()
        self.by_token: Counter[str] = Counter()
        self.batches = self.broken = 0
        self._server, self._tokens = server, tokens
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(4)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def answered(self) -> int:
        """The number of calls answered so far."""
        with self._lock:
            return self.codes.total() + self.batches

    def _ask(self, number: int) -> None:
        for count in range(10**9):
            if self._ended.is_set():
                return
            name = ("till-1", "till-2", "_rejected")[(count + number) % 3]
            bearer = {"Authorization": f"Bearer {self._tokens[name]}"}
            try:
                self._ask_once(count, name, bearer)
            except (OSError, HTTPException):
                with self._lock:
                    self.broken += 1

    def _ask_once(self, count: int, name: str, bearer: dict[str, str]) -> None:
        if count % 5 == 4:
            body = json.dumps({"images": [RED, "%", GREEN]}).encode()
            answer = self._server.request(
                "POST", "/colours/ImageClassification/batch", body, bearer
            )
        else:
            answer = self._server.classify("colours", BODIES[count % len(BODIES)], **bearer)
        with self._lock:
            self.by_token[name] += 1
            for image in answer.json.get("answers", []):
                self.images[str(image.get("error_code", 0))] += 1
            self.batches += "answers" in answer.json
            self.codes[str(answer.code)] += "answers" not in answer.json


def _scrape_until(server: Server, token: str, ended: threading.Event) -> list[float]:
    """Scrape without a pause; returns the number of calls in each scrape."""
    seen = []
    while not ended.is_set():
        try:
            samples = _samples(server, "classifyd_requests_total", token)
        except (OSError, HTTPException):
            continue  # the worker has just been killed
        seen.append(sum(samples.values()))
    return seen


def test_metrics_match_the_clients_counts_while_workers_are_replaced_under_load(
    colour_weights: Path, tmp_path: Path
) -> None:
    tokens = {name: add_token(tmp_path / "tokens.json", name) for name in ("till-1", "till-2")}
    scraper = add_token(tmp_path / "tokens.json", "prometheus")
    ended = threading.Event()
    with (
        Server(colour_weights, tmp_path, workers=2, access_tokens="on") as server,
        ThreadPoolExecutor(1) as pool,
    ):
        wait_until(lambda: _samples(server, "classifyd_worker_starts_total", scraper) == {(): 2})
        scraped = pool.submit(_scrape_until, server, scraper, ended)
        try:
            with Clients(server, tokens | {"_rejected": "wrong"}) as clients:
                for starts in (3, 4, 5):
                    more = clients.answered() + 50
                    wait_until(lambda more=more: clients.answered() > more)  # type: ignore[misc]  # bound early
                    os.kill(server.worker_pids()[0], signal.SIGKILL)
                    wait_until(lambda starts=starts: _starts(server, scraper) >= starts)  # type: ignore[misc]  # bound early
                before = set(server.worker_pids())
                server.running.send_signal(signal.SIGHUP)
                wait_until(lambda: before.isdisjoint(server.worker_pids()))
                more = clients.answered() + 50
                wait_until(lambda: clients.answered() > more)
        finally:
            ended.set()
        seen = scraped.result()
        assert len(seen) > 10
        assert seen == sorted(seen)  # no scrape missed a worker's numbers
        # An answer that a killed worker had counted but not sent is only in the metrics.
        codes = _samples(server, "classifyd_requests_total", scraper)
        expected = {code: count for code, count in clients.codes.items() if code != "0"}
        expected["0"] = clients.codes["0"] + clients.batches
        for code, count in expected.items():
            assert count <= codes[code, "colours"] <= count + clients.broken, code
        images = _samples(server, "classifyd_batch_images_total", scraper)
        for code, count in clients.images.items():
            assert count <= images[code, "colours"] <= count + 3 * clients.broken, code
        used = _samples(server, "classifyd_token_requests_total", scraper)
        for name, count in clients.by_token.items():
            assert count <= used[name,] <= count + clients.broken, name
        assert clients.broken < 20


def _starts(server: Server, token: str) -> float:
    try:
        return _samples(server, "classifyd_worker_starts_total", token)[()]
    except (OSError, HTTPException):
        return 0


def test_unknown_deploy_names_share_one_series(server: Server) -> None:
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
            wait_until(lambda: _samples(server, "classifyd_requests_in_flight")[()] > 0)
            wait_until(lambda: _samples(server, "classifyd_queue_depth")[()] > 0)
            wait_until(lambda: bool(_samples(server, "classifyd_requests_shed_total")))
        finally:
            seen.set()
        codes = [code for future in asking for code in future.result()]
        assert set(codes) == {0, 336100}
        shed = _samples(server, "classifyd_requests_shed_total")
        assert shed == {("slow", "busy"): codes.count(336100)}
        wait_until(lambda: _samples(server, "classifyd_requests_in_flight")[()] == 0)
        serving = {("slow", "cpu", "torchscript", "1"): 1}
        assert _samples(server, "classifyd_model_info") == serving
        (worker,) = server.worker_pids()
        shown = _samples(server, "classifyd_worker_resident_memory_bytes")["0",]
        assert 0.5 < shown / psutil.Process(worker).memory_info().rss < 2


def test_metrics_folders_of_dead_servers_are_removed_and_those_of_running_ones_kept(
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
