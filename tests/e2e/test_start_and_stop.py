"""Starting, stopping and recovering, with the real gunicorn."""

import os
import subprocess
import sys
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from app.serving.status_file import live_workers
from app.settings import PROJECT_ROOT
from tests.support.images import RED
from tests.support.packages import build_colour_package, build_slow_package
from tests.support.server import Server, free_port
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def slow_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    build_slow_package(folder, "slow")
    return folder


def test_sigterm_answers_requests_in_flight_and_refuses_new_ones(
    slow_weights: Path, tmp_path: Path
) -> None:
    settings = {"inference_threads": 1}
    with Server(slow_weights, tmp_path, **settings) as server, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(server.classify, "slow", {"image": RED}) for _ in range(4)]
        # All were sent at the same time, and each takes as long as the first.
        wait(asked, return_when=FIRST_COMPLETED)
        assert server.stop() == 0
        assert [future.result().code for future in asked] == [0, 0, 0, 0]
        with pytest.raises(OSError, match="refused"):
            server.request("GET", "/healthz")


def test_killed_worker_is_replaced_with_other_log_ids(colour_weights: Path, tmp_path: Path) -> None:
    with Server(colour_weights, tmp_path) as server:
        (before,) = server.worker_pids()
        first = server.classify("colours", {"image": RED}).json["log_id"]
        _kill(before)
        answer = server.classify("colours", {"image": RED})
        assert answer.code == 0
        assert answer.json["log_id"] > first
        (after,) = server.worker_pids()
        assert after != before


def test_two_workers_never_share_a_log_id(colour_weights: Path, tmp_path: Path) -> None:
    with Server(colour_weights, tmp_path, workers=2) as server, ThreadPoolExecutor(8) as pool:
        wait_until(lambda: len(live_workers(tmp_path, colour_weights)) == 2, server)
        answers = list(pool.map(lambda _: server.classify("colours", {"image": RED}), range(100)))
        assert len({answer.json["log_id"] for answer in answers}) == 100


def test_connections_are_spread_over_the_workers(colour_weights: Path, tmp_path: Path) -> None:
    with Server(colour_weights, tmp_path, workers=2) as server:
        _wait_until_both_take_connections(server)
        assert all(min(_spread(server, 16)) >= 7 for _ in range(5))
        _kill(server.worker_pids()[0])
        _wait_until_both_take_connections(server)
        assert all(min(_spread(server, 16)) >= 7 for _ in range(5))


def _spread(server: Server, number: int) -> list[int]:
    """Open connections one after the other and keep them; count them by worker."""
    with ExitStack() as stack:
        for _ in range(number):
            connection = stack.enter_context(closing(server.connect()))
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        workers = map(psutil.Process, server.worker_pids())
        statuses = [[each.status for each in worker.net_connections("tcp")] for worker in workers]
        return [found.count(psutil.CONN_ESTABLISHED) for found in statuses]


def _wait_until_both_take_connections(server: Server) -> None:
    def is_spread() -> bool:
        counts = _spread(server, 8)
        return len(counts) == 2 and min(counts) > 0

    wait_until(is_spread, server)


def _kill(pid: int) -> None:
    """Kill a worker and wait until it is gone."""
    worker = psutil.Process(pid)
    worker.kill()
    worker.wait()


def _start_and_wait(arguments: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CLASSIFYD_")}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=PROJECT_ROOT,
        env=clean | {"CLASSIFYD_PORT": str(free_port())} | environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"CLASSIFYD_PORT": "80000"}, "setting port = '80000'"),
        ({"CLASSIFYD_PROT": "8000"}, "unknown setting 'prot'"),
        ({"CLASSIFYD_HTTP_STATUS": "soap"}, "one of compat, rest"),
        ({"CLASSIFYD_CONFIG": "/nowhere.toml"}, "/nowhere.toml"),
        ({"CLASSIFYD_STATE_DIR": "/proc/classifyd"}, "state_dir"),
        ({"CLASSIFYD_WEIGHTS_DIR": "/nowhere"}, "/nowhere"),
        ({"CLASSIFYD_DEVICE": "cuda"}, "no usable CUDA device"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_setting_refuses_to_start_and_is_named(
    colour_weights: Path, tmp_path: Path, environment: dict[str, str], told: str
) -> None:
    folders = {"CLASSIFYD_WEIGHTS_DIR": str(colour_weights), "CLASSIFYD_STATE_DIR": str(tmp_path)}
    ended = _start_and_wait(["gunicorn"], **(folders | environment))
    assert ended.returncode != 0
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_port_in_use_is_named_at_once(server: Server, colour_weights: Path, tmp_path: Path) -> None:
    ended = _start_and_wait(
        ["app.cli", "serve", "--port", str(server.port)],
        CLASSIFYD_WEIGHTS_DIR=str(colour_weights),
        CLASSIFYD_STATE_DIR=str(tmp_path),
    )
    assert ended.returncode == 2
    assert f"port = {server.port}" in ended.stderr
    assert "in use" in ended.stderr
    assert "Traceback" not in ended.stderr


class ServedByCommand(Server):
    """The server as ``classifyd serve`` starts it."""

    module = ("app.cli", "serve")


def test_variables_of_gunicorn_have_no_effect_on_serve(
    colour_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 3 --bind 127.0.0.1:1")
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    with ServedByCommand(colour_weights, tmp_path) as server:
        assert server.classify("colours", {"image": RED}).code == 0
        assert len(server.worker_pids()) == 1
        told = [line for line in server.log_text().splitlines() if "GUNICORN" in line]
    assert told == [
        "classifyd: GUNICORN_CMD_ARGS and WEB_CONCURRENCY ignored: use the settings instead"
    ]


def test_serve_names_only_the_variables_that_are_set(
    colour_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    with ServedByCommand(colour_weights, tmp_path) as server:
        assert len(server.worker_pids()) == 1
        told = [line for line in server.log_text().splitlines() if "ignored" in line]
    assert told == ["classifyd: WEB_CONCURRENCY ignored: use the settings instead"]


@pytest.mark.parametrize("workers", ["1", "3"])
def test_server_with_nothing_to_serve_refuses_to_start(tmp_path: Path, workers: str) -> None:
    weights = tmp_path / "weights"
    package = build_colour_package(weights, "colours", ["red", "green", "blue"])
    (package / "model.pt").write_bytes(b"not a model")
    folders = {"CLASSIFYD_WEIGHTS_DIR": str(weights), "CLASSIFYD_STATE_DIR": str(tmp_path)}
    ended = _start_and_wait(["gunicorn"], **folders, CLASSIFYD_WORKERS=workers)
    assert ended.returncode != 0
    assert "model.pt" in ended.stderr
    assert "model.sha256" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_first_worker_prints_a_curl_command_that_works(
    demo_server: Server,
) -> None:
    greeting = demo_server.stdout_path.read_text()
    assert f"http://127.0.0.1:{demo_server.port}/imagenet/ImageClassification" in greeting
    curl = next(line for line in greeting.splitlines() if "curl" in line)
    answer = subprocess.run(["sh", "-c", curl], capture_output=True, check=True).stdout
    assert b'"name":"espresso"' in answer
