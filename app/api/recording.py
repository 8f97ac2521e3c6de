"""A finished request into the metrics."""

from app.api.errors import is_api_path
from app.api.parts import Parts
from app.api.trace import Trace
from app.errors import ModelUnavailable


def record_request(parts: Parts, trace: Trace, path: str) -> None:
    """Count a call of the API; health checks, pages and wrong URLs are none."""
    if not is_api_path(path):
        return
    name = _deployed_name(parts, trace, path)
    parts.metrics.count_request(name, trace.code)
    if not name:
        return
    parts.metrics.observe_durations(name, trace.elapsed_ms(), trace.stages_ms)
    if trace.code == ModelUnavailable.error_code:
        parts.metrics.count_shed(name, _shed_reason(trace))
    if trace.batch_size:
        parts.metrics.observe_batch(name, trace.batch_size)
        parts.metrics.observe_result(name, trace.top_index, trace.top, trace.top_score)


def _deployed_name(parts: Parts, trace: Trace, path: str) -> str:
    """The name in the path when a package has it, else nothing: clients make up any name."""
    if trace.version:
        return trace.deploy_name
    name = trace.deploy_name or path.lstrip("/").partition("/")[0]
    is_known = name in parts.models.describe() or name in parts.models.problems()
    return name if is_known else ""


def _shed_reason(trace: Trace) -> str:
    if not trace.version:
        return "not_loaded"
    return "late" if trace.stages_ms else "busy"
