"""gunicorn's own ways to replace workers and masters: none loses a request."""

import signal
import threading
from pathlib import Path

import pytest

from tests.support.images import RED
from tests.support.server import Server, wait_for_second_master
from tests.support.waiting import wait_until

WAIT_S = 60


class Callers:
    """Threads that send one request after the other until they are stopped."""

    def __init__(self, server: Server, number: int = 3) -> None:
        self._server = server
        self._stopped = threading.Event()
        self.codes: list[int] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(number)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        while not self._stopped.is_set():
            try:
                self.codes.append(self._server.classify("colours", {"image": RED}).code)
            except OSError:
                self.codes.append(-1)

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests are answered."""
        target = len(self.codes) + more
        wait_until(lambda: len(self.codes) >= target, wait_s=WAIT_S, pause_s=0.05)


def test_max_requests_replaces_the_worker_and_loses_nothing(
    colour_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--max-requests 50 --max-requests-jitter 10")
    with Server(colour_weights, tmp_path) as server, Callers(server) as callers:
        (first,) = server.worker_pids()
        wait_until(lambda: first not in server.worker_pids(), wait_s=WAIT_S, pause_s=0.1)
        callers.wait_for(10)
    assert set(callers.codes) == {0}


def test_access_log_of_gunicorn_has_a_line_for_each_request(
    colour_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "access.log"
    arguments = f"--access-logfile {log} --access-logformat %(m)s_%(s)s_%(b)s_%({{x-log-id}}o)s"
    monkeypatch.setenv("GUNICORN_CMD_ARGS", arguments)
    with Server(colour_weights, tmp_path) as server:
        answer = server.classify("colours", {"image": RED})
    sizes = f"200_{answer.headers['Content-Length']}_{answer.headers['X-Log-Id']}"
    assert f"POST_{sizes}" in log.read_text(encoding="utf-8").splitlines()


def test_reload_replaces_the_worker_and_loses_nothing(colour_weights: Path, tmp_path: Path) -> None:
    with Server(colour_weights, tmp_path) as server, Callers(server) as callers:
        before = set(server.worker_pids())
        callers.wait_for(10)
        server.running.send_signal(signal.SIGHUP)
        wait_until(lambda: before.isdisjoint(server.worker_pids()), server)
        callers.wait_for(10)
    assert set(callers.codes) == {0}


def test_second_master_takes_over_and_loses_nothing(colour_weights: Path, tmp_path: Path) -> None:
    with Server(colour_weights, tmp_path) as server:
        before = server.running
        with Callers(server) as callers:
            before.send_signal(signal.SIGUSR2)
            after = wait_for_second_master(before.pid)
            callers.wait_for(10)
            before.send_signal(signal.SIGTERM)
            before.wait(WAIT_S)
            callers.wait_for(10)
        after.terminate()
        after.wait(WAIT_S)
    assert set(callers.codes) == {0}


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("worker_class", "--worker-class gthread"),
        ("proxy_protocol", "--proxy-protocol v2"),
    ],
)
def test_settings_that_the_worker_depends_on_cannot_be_changed(
    name: str,
    argument: str,
    colour_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", argument)
    server = Server(colour_weights, tmp_path)
    server.start()
    assert server.running.wait(WAIT_S) != 0
    assert f"classifyd: {name} of gunicorn cannot be changed" in server.log_text()
