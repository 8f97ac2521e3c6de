"""The result of a load."""

from dataclasses import dataclass, field

NO_ANSWER = -1
"""Instead of an error_code: the connection was refused, closed or stalled."""


@dataclass
class LoadResult:
    """Counts and times of requests and answers.

    Attributes:
        late_ms: in an open loop, the delay of each request after it was due.
        held_back: whether a request was delayed because all connections were in use.
        latencies_ms: time to the complete answer, by error_code; 0 is a result. In an open loop
            it starts when the request was due, so that late sending does not flatter the server.
        results_in_time: results received while requests were sent; later ones are only in
            latencies_ms.
        last_answer: the body of the last result.
        busy: CPU time of the load generator as a share of one core; the maximum over processes.
    """

    duration_s: float = 0.0
    sent: int = 0
    late_ms: list[float] = field(default_factory=list)
    held_back: bool = False
    latencies_ms: dict[int, list[float]] = field(default_factory=dict)
    results_in_time: int = 0
    stages_ms: dict[str, list[float]] = field(default_factory=dict)
    last_answer: bytes = b""
    busy: float = 0.0
    processes: int = 1

    def answered(self) -> list[float]:
        """The latencies of the results."""
        return self.latencies_ms.get(0, [])

    def throughput(self) -> float:
        """Results per second."""
        return self.results_in_time / self.duration_s if self.duration_s else 0.0

    def offered(self) -> float:
        """Requests per second."""
        return self.sent / self.duration_s if self.duration_s else 0.0

    def add(self, code: int, latency_ms: float) -> None:
        """Count an answer."""
        self.latencies_ms.setdefault(code, []).append(latency_ms)


def merge(parts: list[LoadResult]) -> LoadResult:
    """Join the results of processes that sent one load together."""
    whole = LoadResult(
        duration_s=max(part.duration_s for part in parts),
        sent=sum(part.sent for part in parts),
        late_ms=[late for part in parts for late in part.late_ms],
        held_back=any(part.held_back for part in parts),
        results_in_time=sum(part.results_in_time for part in parts),
        last_answer=next((part.last_answer for part in parts if part.last_answer), b""),
        busy=max(part.busy for part in parts),
        processes=len(parts),
    )
    for part in parts:
        for code, latencies in part.latencies_ms.items():
            whole.latencies_ms.setdefault(code, []).extend(latencies)
        for name, times in part.stages_ms.items():
            whole.stages_ms.setdefault(name, []).extend(times)
    return whole
