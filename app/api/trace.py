"""What is known of one request: for its log line and its headers, never for its answer."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from flask import g

from app.api.received import ReceivedRequest
from app.errors import ApiError
from app.inference.classifier import Inference


@dataclass
class Trace:
    """One request's record.

    Attributes:
        log_id: the number in the answer and in the log.
        started: time.monotonic() when its head had been read.
        deploy_name: the name in the path, also of an unknown model.
        code: the answered error_code, 0 for none.
        detail: what exactly was wrong.
        image: format and size, such as ``jpg 640x480``, once known.
        remark: an irregularity of the image file that affects no pixel.
        top: the first result's label, once known.
        top_index: its class index.
        top_score: its score.
        batch_size: how many images were computed together with this one, itself included.
        token: the name of the access token, when those are on.
        version: the version of the model that answers, once known.
        queue_ms: time it waited for a native thread.
        stages_ms: milliseconds by stage, in the order of the stages.
    """

    log_id: int
    started: float
    deploy_name: str = ""
    code: int = 0
    detail: str = ""
    image: str = ""
    remark: str = ""
    top: str = ""
    top_index: int = 0
    top_score: float = 0.0
    batch_size: int = 0
    token: str = ""
    version: str = ""
    queue_ms: float = 0.0
    stages_ms: dict[str, float] = field(default_factory=dict)

    def stage(self, name: str) -> "_Stage":
        """Time the block as one stage, also when it raises."""
        return _Stage(self.stages_ms, name)

    def note_inference(self, inference: Inference, labels: Sequence[str], waited_ms: float) -> None:
        """Record what the model said, what that took, and the wait for a core before it."""
        queue_ms = self.queue_ms + waited_ms + inference.queue_ms
        self.stages_ms |= {"queue": queue_ms, "infer": inference.infer_ms}
        self.batch_size = inference.batch_size
        self.top_index = int(inference.scores.argmax())
        self.top = labels[self.top_index]
        self.top_score = float(inference.scores[self.top_index])

    def note_remark(self, remark: str) -> None:
        """Record an irregularity of the image file."""
        self.remark = remark

    def fail(self, error: ApiError) -> None:
        """Record the error that is answered."""
        self.code, self.detail = error.error_code, error.detail

    def headers(self) -> list[tuple[str, str]]:
        """Make the headers that every answer has."""
        headers = [("X-Log-Id", str(self.log_id))]
        if self.stages_ms:
            headers.append(("Server-Timing", self._server_timing()))
        if self.version:
            headers.append(("X-Model-Version", self.version))
        return headers

    def elapsed_ms(self) -> float:
        """Milliseconds since the request began."""
        return (time.monotonic() - self.started) * 1000

    def _server_timing(self) -> str:
        """Write the stages as a Server-Timing header (W3C Server Timing, section 3)."""
        return ", ".join(f"{name};dur={ms:.2f}" for name, ms in self.stages_ms.items())


class _Stage:
    """Times one block; a generator in its place takes three times as long."""

    def __init__(self, stages_ms: dict[str, float], name: str) -> None:
        self._stages_ms = stages_ms
        self._name = name

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_failure: object) -> None:
        self._stages_ms[self._name] = (time.monotonic() - self._started) * 1000


def start_trace(log_id: int, received: ReceivedRequest) -> None:
    """Begin the record of the current request."""
    trace = g.trace = Trace(log_id, received.started)
    if received.body is not None:
        read_ms = (received.completed - received.started) * 1000
        trace.stages_ms["read"] = read_ms
        trace.queue_ms = trace.elapsed_ms() - read_ms


def current_trace() -> Trace:
    """Return the record of the current request."""
    trace: Trace = g.trace
    return trace
