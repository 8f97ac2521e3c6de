"""Answered requests into the metrics, and behind the answers into the log.

After an inference Python runs with cold caches, in which a request's log line takes four
times as long as in a loop. So a request leaves its line to be written, and a thread writes
what has come together: neither the caller nor the next request waits for it.
"""

import atexit
import logging
import threading
import time
from collections import deque
from typing import NamedTuple

from app.api.paths import QUIET_PATHS, deploy_name_of, is_api_path
from app.api.trace import Trace
from app.errors import ModelUnavailable
from app.observability.metrics import Metrics
from app.serving.registry import ModelRegistry

INTERVAL_S = 0.1
"""So much later a line is in the log: what a killed worker loses of it."""

MAX_WAITING = 4096
"""Beyond it, as when nobody reads the log, who answers writes as well, and waits with it."""

_log = logging.getLogger("classifyd.request")


class _Answered(NamedTuple):
    """What is left of a request; ``time_s`` and ``elapsed_ms`` are of when it was answered."""

    trace: Trace
    method: str
    path: str
    client: str
    status: int
    time_s: float
    elapsed_ms: float


class Recorder:
    """Records what a worker answers; safe to call from several threads at once.

    Args:
        models: tells which deploy names there are.
        metrics: counts.
    """

    def __init__(self, models: ModelRegistry, metrics: Metrics) -> None:
        self._models = models
        self._metrics = metrics
        self._waiting: deque[_Answered] = deque()
        self._has_some = threading.Event()
        self._turn = threading.Lock()

    def start(self) -> None:
        """Begin to write, until the process ends."""
        threading.Thread(target=self._serve, name="recorder", daemon=True).start()
        atexit.register(self.flush)

    def note(self, trace: Trace, method: str, path: str, client: str, status: int) -> None:
        """Count an answered request, and leave its line to be written."""
        elapsed_ms = trace.elapsed_ms()
        # At once: what a client was answered is never missing, even of a killed worker.
        self._count(trace, path, elapsed_ms)
        self._waiting.append(
            _Answered(trace, method, path, client, status, time.time(), elapsed_ms)
        )
        if not self._has_some.is_set():
            self._has_some.set()
        if len(self._waiting) > MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Write the lines of everything that was answered until now."""
        with self._turn:
            while self._waiting:
                _write(self._waiting.popleft())

    def _serve(self) -> None:
        while self._has_some.wait():
            time.sleep(INTERVAL_S)
            self._has_some.clear()
            try:
                self.flush()
            except Exception:
                logging.getLogger(__name__).exception("a request could not be logged")

    def _count(self, trace: Trace, path: str, elapsed_ms: float) -> None:
        """Count a call of the API; health checks, pages and wrong URLs are none."""
        if not is_api_path(path):
            return
        metrics, name = self._metrics, self._deployed_name(trace, path)
        metrics.count_request(name, trace.code)
        if not name:
            return
        metrics.observe_durations(name, elapsed_ms, trace.stages_ms)
        if trace.code == ModelUnavailable.error_code:
            metrics.count_shed(name, _shed_reason(trace))
        if trace.batch_size:
            metrics.observe_batch(name, trace.batch_size)
            metrics.observe_result(name, trace.top_index, trace.top, trace.top_score)

    def _deployed_name(self, trace: Trace, path: str) -> str:
        """The name in the path when a package has it, else nothing: clients make up any name."""
        if trace.version:
            return trace.deploy_name
        name = trace.deploy_name or deploy_name_of(path)
        is_known = name in self._models.describe() or name in self._models.problems()
        return name if is_known else ""


def _shed_reason(trace: Trace) -> str:
    if not trace.version:
        return "not_loaded"
    return "late" if trace.stages_ms else "busy"


def _write(answered: _Answered) -> None:
    """Write the log line of a request."""
    level = logging.DEBUG if answered.path in QUIET_PATHS else logging.INFO
    if not _log.isEnabledFor(level):
        return
    trace = answered.trace
    fields = {
        "log_id": trace.log_id,
        "method": answered.method,
        "path": answered.path,
        "deploy_name": trace.deploy_name,
        "version": trace.version,
        "status": answered.status,
        "code": trace.code,
        "detail": trace.detail,
        "image": trace.image,
        "remark": trace.remark,
        "top": trace.top,
        "token": trace.token,
        "client": answered.client,
        "total_ms": round(answered.elapsed_ms, 2),
        "stages_ms": {name: round(ms, 2) for name, ms in trace.stages_ms.items()},
    }
    record = _log.makeRecord(_log.name, level, "", 0, "request", (), None, extra={"fields": fields})
    record.created = answered.time_s
    _log.handle(record)
