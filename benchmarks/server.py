"""A server to measure: the one of a checkout, or any other in a session of its own."""

import datetime
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import IO, Self

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.support import PATH, PROJECT_ROOT, Target

HOST = "127.0.0.1"
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 15
_RETRY_PAUSE_S = 0.05


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """The environment without what would change a server behind the benchmark's back."""
    changing = ("CLASSIFYD_", "GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "PYTHONPATH")
    return {key: value for key, value in os.environ.items() if not key.startswith(changing)}


def settings_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """The environment variables of settings by name."""
    return {f"CLASSIFYD_{name.upper()}": str(value) for name, value in settings.items()}


def launch(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: IO[bytes]
) -> "subprocess.Popen[bytes]":
    """Start a server in a session of its own, so that stop() reaches all of its processes."""
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
    )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server that launch() started, by force where it does not end by itself."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    # Also after an orderly end: some servers start processes that outlive their parent.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Server:
    """The server of a checkout, started there as ``python -m gunicorn`` starts it.

    Args:
        state_dir: its own; holds the tuned engines and the log.
        checkout: folder with ``gunicorn.conf.py``. Where it has no demo package, that of this
            checkout is served.
        prefix: a command that runs the server's command.
        certificate: certificate and key; with them the server speaks TLS.
        settings: names and values.
        log: file of its standard error; default is ``server.log`` in ``state_dir``.
        host: the address at which it is reached, where ``prefix`` puts it into another network.

    Attributes:
        path: of a good request.
        state_dir: as given.
    """

    path = PATH

    def __init__(
        self,
        state_dir: Path,
        checkout: Path = PROJECT_ROOT,
        prefix: Sequence[str] = (),
        certificate: tuple[Path, Path] | None = None,
        settings: Iterable[tuple[str, str]] = (),
        log: Path | None = None,
        host: str = HOST,
    ) -> None:
        self.host, self.port, self.state_dir = host, free_port(), state_dir
        self.cafile = str(certificate[0]) if certificate else ""
        self._checkout, self._prefix = checkout, prefix
        self._log = log or state_dir / "server.log"
        own = checkout / "weights"
        values: dict[str, object] = {
            "port": self.port,
            "state_dir": state_dir,
            "weights_dir": own if (own / "imagenet").exists() else PROJECT_ROOT / "weights",
            "engine": "auto",
        }
        if certificate:
            values |= {"tls_certificate": certificate[0], "tls_key": certificate[1]}
        self._environment = clean_environment() | settings_environment(values | dict(settings))
        state_dir.mkdir(parents=True, exist_ok=True)

    def tune(self) -> list[str]:
        """Choose the engines, so that no later start has to.

        Returns:
            What was chosen, as ``classifyd tune`` prints it.
        """
        ended = subprocess.run(
            [sys.executable, "-m", "app.cli", "tune"],
            cwd=self._checkout,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        if ended.returncode:
            raise SystemExit(f"{self._checkout}: classifyd tune failed: {ended.stderr}")
        return [" ".join(line.split()) for line in ended.stdout.splitlines() if "chosen" in line]

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Run the server for the length of a block, from when its models are ready."""
        command = [*self._prefix, sys.executable, "-m", "gunicorn"]
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._process = launch(command, self._checkout, self._environment, log)
        try:
            self._wait_until_ready()
            yield self
        finally:
            stop(self._process)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(OSError, HTTPException):
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            time.sleep(_RETRY_PAUSE_S)
        tail = self._log.read_text(errors="replace")[-2000:]
        raise SystemExit(f"the server of {self._checkout} did not start:\n{tail}")

    def target(self, *bodies: bytes) -> Target:
        """Where to send load, and what."""
        return Target(self.host, self.port, self.path, bodies)

    def connect(self, timeout_s: float) -> HTTPConnection:
        """Make a connection object; its first request connects."""
        return connect(self.port, self.cafile, timeout_s, self.host)

    def ask(
        self, method: str, path: str, body: bytes | None = None, timeout_s: float = 60
    ) -> tuple[int, bytes]:
        """Send one request on a connection of its own; status and body of the answer.

        Raises:
            OSError: the connection was refused or closed, or the server was silent too long.
            HTTPException: the answer is not HTTP.
        """
        return ask(self.connect(timeout_s), method, path, body)

    def workers(self) -> list[psutil.Process]:
        """The processes below gunicorn's master; none when the master has ended."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children()
        return []

    def worker_pids(self) -> set[int]:
        """The process ids of the workers."""
        return {worker.pid for worker in self.workers()}

    def signal(self, number: int) -> None:
        """Send a signal to the master and its workers."""
        os.killpg(self._process.pid, number)

    def master(self) -> psutil.Process:
        """The process of gunicorn's master."""
        return psutil.Process(self._process.pid)

    def cpu_s(self) -> float:
        """Processor time that the master and its workers have taken so far."""
        tree = [psutil.Process(self._process.pid), *self.workers()]
        return sum(times.user + times.system for times in map(psutil.Process.cpu_times, tree))

    def resident_mb(self) -> float:
        """Resident memory of the workers, in megabytes."""
        return sum(worker.memory_info().rss for worker in self.workers()) / 1e6

    def reset_peak(self) -> None:
        """Forget the peak of each worker's resident memory (proc(5), clear_refs)."""
        for worker in self.workers():
            Path(f"/proc/{worker.pid}/clear_refs").write_text("5")

    def peak_mb(self) -> float:
        """The highest peak of a worker's resident memory, in megabytes (proc(5), VmHWM)."""
        peaks = [0.0]
        for worker in self.workers():
            with suppress(OSError):
                lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
                peaks += [int(x.split()[1]) * 1024 / 1e6 for x in lines if x.startswith("VmHWM")]
        return max(peaks)

    def log_text(self) -> str:
        """What the server has written to its log since its last start."""
        return self._log.read_bytes()[self._log_start :].decode(errors="replace")

    def log_bytes(self) -> int:
        """Size of what the server has written to its log."""
        return self._log.stat().st_size


def connect(port: int, cafile: str, timeout_s: float, host: str = HOST) -> HTTPConnection:
    """Make a connection object for a server, for TLS where there is a certificate."""
    if not cafile:
        return HTTPConnection(host, port, timeout=timeout_s)
    context = ssl.create_default_context(cafile=cafile)
    return HTTPSConnection(host, port, timeout=timeout_s, context=context)


def ask(
    connection: HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    """Send one request on a connection and close it; status and body of the answer."""
    try:
        connection.request(method, path, body, {"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate of the loopback address and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address(HOST))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, key_file = folder / "server.pem", folder / "server.key"
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, key_file
