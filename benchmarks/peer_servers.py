"""The servers that ``make bench`` compares: how each is set up and started."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.server import HOST, clean_environment, free_port, launch, stop
from benchmarks.support import (
    NO_ANSWER,
    PATH,
    PROJECT_ROOT,
    ClosedLoop,
    LoadResult,
    Target,
    photo_body,
    run_load,
)

FOLDER = PROJECT_ROOT / "benchmarks/peers"
BIN = PROJECT_ROOT / "benchmarks/.venv/bin"
START_TIMEOUT_S = 120
OURS = "classifyd"


@dataclass(frozen=True)
class Peer:
    """A server to measure.

    Attributes:
        name: heads its column.
        command: starts it on PORT.
        path: where it takes the body.
        runs: its engine, threads and processes, for the report.
        as_list: whether it takes a list of images, as BentoML's batches do.
    """

    name: str
    command: tuple[str, ...]
    path: str
    runs: str
    as_list: bool = False

    def body(self, photo: Path) -> bytes:
        """The request's body."""
        body = photo_body(photo)
        return json.dumps({"image": [json.loads(body)["image"]]}).encode() if self.as_list else body


_TORCH = "TorchScript (frozen, optimized for inference) with one thread for an operation, Pillow"
_PROCESSES = "one process for each core, batches of up to 8 that wait at most 5 ms"

PEERS = (
    Peer(
        OURS,
        (sys.executable, "-m", "gunicorn"),
        PATH,
        "the engine that `classifyd tune` chooses (ENGINE here), OpenCV, its default settings",
    ),
    Peer(
        "Flask + OpenVINO",
        (
            *("python", "-m", "gunicorn", "--worker-class", "gthread", "--workers", "1"),
            *("--threads", "16", "--bind", f"{HOST}:PORT", "openvino_flask:app"),
        ),
        "/predict",
        "plain Flask on gunicorn's own gthread worker with 16 threads in one process; OpenVINO in "
        "float32 with PERFORMANCE_HINT=THROUGHPUT, one compiled model, one image an inference, a "
        "pool of as many infer requests as OpenVINO advises; Pillow, orjson, standard base64. The "
        "strongest peer that we know",
    ),
    Peer(
        "Flask development server",
        ("python", "flask_dev.py", "PORT"),
        "/predict",
        f"{_TORCH}; one process, a thread for each connection, one image an inference",
    ),
    Peer(
        "LitServe",
        ("python", "litserve_server.py", "PORT"),
        "/predict",
        f"{_TORCH}; {_PROCESSES}",
    ),
    Peer(
        "mosec",
        ("python", "mosec_server.py", "--port", "PORT"),
        "/inference",
        f"{_TORCH}; {_PROCESSES}, and as many processes that decode",
    ),
    Peer(
        "BentoML",
        ("bentoml", "serve", "bentoml_service:Classifier", "-p", "PORT"),
        "/predict",
        f"{_TORCH}; one process for each core, adaptive batches of up to 8",
        True,
    ),
    *(
        (
            Peer(
                "TorchServe",
                ("python", "torchserve_server.py", "PORT"),
                "/predictions/classifier",
                f"{_TORCH}; {_PROCESSES}, behind its front end in Java",
            ),
        )
        if shutil.which("java")
        else ()
    ),
)


def require_same_class(peer: Peer, result: LoadResult) -> None:
    """End the benchmark when a server names another class than the others."""
    answer = json.loads(result.last_answer or b"{}")
    first = answer[0] if isinstance(answer, list) else answer
    found = (first.get("results") or [{"name": "nothing"}])[0]["name"]
    if found != "espresso":
        raise SystemExit(f"{peer.name} answers {found}, expected espresso")


@contextmanager
def running(peer: Peer, package: Path, settings: Mapping[str, str]) -> Iterator[int]:
    """Run a server for the length of a block; yields its port."""
    port = free_port()
    is_ours = peer.name == OURS
    command = [part.replace("PORT", str(port)) for part in peer.command]
    environment = {
        **clean_environment(),
        **settings,
        "CLASSIFYD_PORT": str(port),
        "BENCH_MODEL": str(package / "model.pt"),
        "BENCH_LABELS": str(package / "labels.txt"),
        # None of them may report its use to anybody.
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
    }
    if not is_ours:
        command[0] = str(BIN / command[0])
    with tempfile.TemporaryFile() as log:
        folder = PROJECT_ROOT if is_ours else FOLDER
        process = launch(command, folder, environment, log)
        try:
            _wait_for(port, peer, process)
            yield port
        finally:
            stop(process)


def _wait_for(port: int, peer: Peer, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_TIMEOUT_S
    probe = Target(HOST, port, peer.path, [b'{"image": ""}'])
    while time.monotonic() < end and process.poll() is None:
        # Any answer at all shows that the model is loaded: also a refusal of the empty image.
        if any(code != NO_ANSWER for code in run_load(probe, ClosedLoop(1), 0.2).latencies_ms):
            return
    raise SystemExit(f"{peer.name} did not start")
