"""``classifyd bench`` with a real server: its counts, messages and reports."""

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from app.bench import load
from app.bench.connections import Target
from app.bench.load import ClosedLoop, OpenLoop, run_load
from app.bench.report import Report, Run, notes
from app.cli.bench import make_target
from app.cli.calling import parse_url
from app.settings import PROJECT_ROOT
from tests.support.images import PHOTOS
from tests.support.server import Server


def bench(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "bench", *map(str, arguments)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def url_of(server: Server, name: str = "colours") -> str:
    return f"http://127.0.0.1:{server.port}/{name}/ImageClassification"


def target_of(server: Server, name: str = "colours") -> Target:
    return make_target(parse_url(url_of(server, name)), PHOTOS)


def logged(server: Server, name: str) -> list[dict[str, Any]]:
    return [line for line in server.log_lines() if line.get("deploy_name") == name]


@pytest.fixture(scope="module")
def small_server(colour_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that gets no other requests than those of these tests."""
    with Server(colour_weights, tmp_path_factory.mktemp("state")) as running:
        yield running


# Its last requests may be logged late: no other test here counts those of this name.
def test_a_closed_loop_counts_what_the_server_logs(small_server: Server) -> None:
    before = len(logged(small_server, "farben"))
    result = run_load(target_of(small_server, "farben"), ClosedLoop(3), 1)
    answered = len(result.answered())
    assert answered > 3
    assert set(result.latencies_ms) == {0}
    # The last request of each connection is sent, but its answer comes after the end.
    assert answered <= result.sent <= answered + 3
    assert result.results_in_time == answered
    assert answered <= len(logged(small_server, "farben")) - before <= result.sent
    assert {"decode", "infer"} <= result.stages_ms.keys()
    assert b'"results"' in result.last_answer


@pytest.mark.parametrize("processes", [1, 3])
def test_an_open_loop_sends_its_rate_and_every_answer_is_counted(
    small_server: Server, processes: int
) -> None:
    before = len(logged(small_server, "colours"))
    result = run_load(target_of(small_server), OpenLoop(30, processes), 2)
    assert result.processes == processes
    assert result.sent == len(result.late_ms) == pytest.approx(60, abs=processes)
    assert sum(map(len, result.latencies_ms.values())) == result.sent
    assert set(result.latencies_ms) == {0}
    assert min(result.late_ms) >= 0
    assert len(logged(small_server, "colours")) - before == result.sent


def test_processes_share_the_photos_evenly(small_server: Server) -> None:
    before = len(logged(small_server, "colours"))
    run_load(target_of(small_server), OpenLoop(20, processes=2), 1)
    images = Counter(line["image"] for line in logged(small_server, "colours")[before:])
    assert images == Counter(2 * _photo_names())


def _photo_names() -> list[str]:
    """The photos as the server's log names them."""
    names = []
    for path in PHOTOS.iterdir():
        if path.suffix in {".jpg", ".png", ".bmp"}:
            with Image.open(path) as image:
                names.append(f"{path.suffix[1:]} {image.width}x{image.height}")
    return names


def test_a_higher_rate_uses_more_processes(
    small_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "RATE_PER_PROCESS", 20)
    assert run_load(target_of(small_server), OpenLoop(30), 1).processes == 2


def test_a_load_that_cannot_be_generated_is_reported_and_its_delay_counted(
    small_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "MAX_OPEN_CONNECTIONS", 1)
    result = run_load(target_of(small_server), OpenLoop(5000, processes=1), 2)
    assert result.held_back
    assert result.offered() < 2500
    # The last request was sent long after it was due, and its latency counts from then.
    assert max(result.answered()) > max(result.late_ms) > 500
    run = Run("5000 requests/s", 5000, result, is_open=True)
    (note,) = notes(Report("", runs=[run]))
    assert "fell behind because all connections were waiting" in note


def test_refusals_are_counted_by_code_and_timed(colour_weights: Path, tmp_path: Path) -> None:
    with Server(colour_weights, tmp_path, max_in_flight=1) as server:
        ended = bench(url_of(server), "--connections", "16", "--duration", "2", "--json")
    (run,) = json.loads(ended.stdout)["runs"]
    refused = run["errors"]["336100"]
    assert refused["count"] > 10
    assert refused["p99_ms"] > 0
    assert run["results_per_s"] + refused["count"] / run["duration_s"] <= run["sent_per_s"]


def test_a_server_that_dies_counts_as_no_answer_and_ends_the_wait(
    colour_weights: Path, tmp_path: Path
) -> None:
    with Server(colour_weights, tmp_path) as server:
        threading.Timer(1, server.kill).start()
        result = run_load(target_of(server), ClosedLoop(2), 3)
    assert result.answered()
    assert len(result.latencies_ms[-1]) >= 2
    assert result.duration_s < 10


def test_the_json_output_is_complete_and_consistent(small_server: Server, tmp_path: Path) -> None:
    loads = ("--connections", "1,4", "--rate", "20", "--duration", "1")
    ended = bench(url_of(small_server), *loads, "--json", "--report", tmp_path / "r")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert [run["load"] for run in found["runs"]] == [
        "1 connection",
        "4 connections",
        "20 requests/s",
    ]
    for run in found["runs"]:
        times = run["latency_ms"]
        assert 0 < times["p50"] <= times["p95"] <= times["p99"]
        assert run["results_per_s"] > 5
        assert run["errors"] == {}
        assert run["memory_mb"] > 50
        assert run["stages_ms"]["infer"] > 0
    assert "by torchscript on cpu" in found["facts"]["server"]
    assert found["facts"]["client CPU"]
    best = max(run["results_per_s"] for run in found["runs"])
    assert found["conclusion"]["results_per_s"] == best


def test_the_report_has_tables_and_plots_and_loads_nothing_external(
    small_server: Server, tmp_path: Path
) -> None:
    loads = ("--connections", "1,2", "--rate", "10", "--duration", "1")
    ended = bench(url_of(small_server), *loads, "--output", tmp_path / "r.html")
    assert ended.returncode == 0, ended.stderr
    assert "2 connections" in ended.stdout
    assert "This server returns " in ended.stdout
    names = {"r.html", "r.md", "r-throughput.svg", "r-latency.svg", "r-stages.svg"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for plot in tmp_path.glob("*.svg"):
        assert ElementTree.parse(plot).getroot().tag.endswith("svg")  # noqa: S314 - our own file
    markdown = (tmp_path / "r.md").read_text()
    assert all(f"]({name})" in markdown for name in names if name.endswith("svg"))
    assert markdown.splitlines()[2].startswith("This server returns ")
    page = (tmp_path / "r.html").read_text()
    assert page.count("<svg") == 3
    for name in ("p50", "p95", "p99", "decode", "2 connections", "10 requests/s"):
        assert name in page
    assert not any(outside in page for outside in ("<script", "<link", "src=", "@import"))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:9/colours/ImageClassification", "does not answer: Connection refused"),
        ("http://no.such.host.invalid/a/b", "does not answer: Name or service not known"),
        ("ftp://127.0.0.1/x", "the form http[s]://HOST:PORT/NAME/ImageClassification"),
    ],
)
def test_an_unusable_url_is_reported_before_anything_is_measured(url: str, told: str) -> None:
    ended = bench(url)
    assert ended.returncode == (2 if url.startswith("ftp") else 4)
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_invalid_options_are_reported(small_server: Server, tmp_path: Path) -> None:
    cases = {
        ("--connections", "0"): "numbers from 1 to 1024",
        ("--connections", ""): "nothing to do",
        ("--photos", str(tmp_path)): "found no jpg, png or bmp",
        ("--output", "/proc/nowhere/r"): "cannot be written",
    }
    for options, told in cases.items():
        ended = bench(url_of(small_server), *options)
        assert ended.returncode == (2 if options[0] == "--connections" else 3)
        assert told in ended.stderr
    unknown = bench(url_of(small_server, "nobody"))
    assert unknown.returncode == 3
    assert "answers error 336001" in unknown.stderr
