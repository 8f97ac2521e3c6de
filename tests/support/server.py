"""A real gunicorn with the real app, for the duration of a test."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any, Self

import psutil

from app.settings import PROJECT_ROOT
from tests.support.waiting import wait_until

START_TIMEOUT_S = 180


def free_port() -> int:
    """A free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process on a free port; settings are given as keyword arguments.

    Attributes:
        module: what Python runs, with its arguments.
        folder: the current folder of the process.
    """

    module: tuple[str, ...] = ("gunicorn",)
    folder = PROJECT_ROOT

    def __init__(self, weights_dir: Path, state_dir: Path, **settings: object) -> None:
        self.port = free_port()
        self.log_path = state_dir / "server.log"
        self.stdout_path = state_dir / "server.out"
        values = {
            "weights_dir": weights_dir,
            "state_dir": state_dir,
            "port": self.port,
            # Named, so that engines are not measured at every start.
            "engine": "torchscript",
            # The same on every machine, so that the limits of a worker are those of the server.
            "workers": 1,
        } | settings
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CLASSIFYD_")}
        self._environment = clean | {
            f"CLASSIFYD_{key.upper()}": str(value) for key, value in values.items()
        }
        self._has_tls = "tls_certificate" in settings
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The command line that starts it."""
        return [sys.executable, "-m", *self.module]

    def __str__(self) -> str:
        return f"a server with the log {self.log_text()}"

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_failure: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start gunicorn as ``make run`` does, without waiting."""
        with self.log_path.open("ab") as log, self.stdout_path.open("ab") as out:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=self._environment,
                stdout=out,
                stderr=log,
            )

    def wait_until_ready(self, path: str = "/healthz") -> None:
        """Wait until a request is answered."""
        self._wait_for_start(lambda: self._answers(path))

    def wait_for_port(self) -> None:
        """Wait until a worker is warm; works with TLS too."""
        self._wait_for_start(lambda: "is ready" in self.stdout_path.read_text())

    def _wait_for_start(self, condition: Callable[[], bool]) -> None:
        def is_started() -> bool:
            assert self.running.poll() is None, f"the server ended: {self.log_text()}"
            return condition()

        wait_until(is_started, self, wait_s=START_TIMEOUT_S)

    def _answers(self, path: str) -> bool:
        try:
            self.request("GET", path)
        except OSError:
            return False
        return True

    @property
    def running(self) -> "subprocess.Popen[bytes]":
        """The gunicorn master."""
        assert self.process is not None
        return self.process

    def stop(self, timeout_s: float = 40) -> int:
        """Send SIGTERM and return the exit status."""
        if self.running.poll() is None:
            self.running.send_signal(signal.SIGTERM)
        try:
            return self.running.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the master and its workers."""
        with contextlib.suppress(psutil.NoSuchProcess):  # it has already exited
            for process in psutil.Process(self.running.pid).children(recursive=True):
                process.kill()
        self.running.kill()
        self.running.wait()

    def worker_pids(self) -> list[int]:
        """The process ids of the workers."""
        return [child.pid for child in psutil.Process(self.running.pid).children()]

    def log_text(self) -> str:
        """The server's standard error so far."""
        return self.log_path.read_text(encoding="utf-8")

    def log_lines(self) -> list[dict[str, Any]]:
        """The JSON log of a server with one worker, parsed, up to its last answer."""
        if self.running.poll() is None:
            # Lines are written after the answers but in their order, so this one is the last.
            self.log_line(self.request("GET", "/nowhere").json["log_id"])
        return self._parse_log()

    def log_line(self, log_id: int) -> dict[str, Any]:
        """The request line of one log_id."""
        found: list[dict[str, Any]] = []

        def is_logged() -> bool:
            found[:] = [line for line in self._parse_log(str(log_id)) if is_request(line, log_id)]
            return bool(found)

        wait_until(is_logged, f"log_id {log_id} in the log")
        return found[0]

    def _parse_log(self, text: str = "") -> list[dict[str, Any]]:
        lines = self.log_text().split("\n")[:-1]  # the last one may be incomplete
        return [json.loads(line) for line in lines if line.startswith("{") and text in line]

    def connect(self) -> HTTPConnection:
        """Open a connection, to be closed by the caller; its certificate is not verified."""
        if self._has_tls:
            trust = ssl._create_unverified_context()  # noqa: S323 - the test's own certificate
            return HTTPSConnection("127.0.0.1", self.port, timeout=60, context=trust)
        return HTTPConnection("127.0.0.1", self.port, timeout=60)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> "Answer":
        """Send one request on a new connection."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def classify(self, name: str, payload: object, **headers: str) -> "Answer":
        """Post a JSON payload to a deploy name."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.request("POST", f"/{name}/ImageClassification", body, headers)


def wait_for_second_master(first: int) -> psutil.Process:
    """Wait until a child of the master has a worker that accepts connections."""
    found: list[psutil.Process] = []

    def is_serving() -> bool:
        for child in psutil.Process(first).children():
            for worker in child.children():
                # A worker starts its native threads when it has loaded its models.
                if worker.num_threads() > 4:
                    found.append(child)
        return bool(found)

    wait_until(is_serving, wait_s=60, pause_s=0.1)
    return found[0]


def is_request(line: dict[str, Any], log_id: int) -> bool:
    """Whether a log line is that of the request with this log_id."""
    return line["message"] == "request" and line.get("log_id") == log_id


class Answer:
    """One HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> dict[str, Any]:
        """The body, parsed."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def code(self) -> int:
        """The error_code, 0 for a result."""
        return int(self.json.get("error_code", 0))

    @property
    def detail(self) -> str:
        """The header X-Error-Detail."""
        return self.headers.get("X-Error-Detail", "")
