"""The server in a memory cgroup: does a load get it killed, and does it still answer?

    python -m benchmarks.memory_limit --limit-mb 1500

Each load meets a fresh server in a cgroup of its own (version 2, or version 1 where that has the
memory controller). Making one takes write access to /sys/fs/cgroup, which is root's as a rule;
without it the peak of a worker's resident memory is compared with the limit instead. The group's
peak counts the page cache, too, which the kernel gives back before it kills.
"""

import argparse
import dataclasses
import io
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.attackers import Attack, attackers, post
from benchmarks.cgroup import Group, memory_group
from benchmarks.clients import HealthSummary, health_checks, summarize
from benchmarks.server import Server
from benchmarks.support import (
    PATH,
    PROJECT_ROOT,
    ClosedLoop,
    allow_many_files,
    codes,
    make_parser,
    photo_body,
    publish,
    run_load,
    show_status,
    table,
)

BODY_BYTES = 32 * 1024 * 1024
PHOTO_BYTES = int(2.9 * 1024 * 1024)
PHOTO_SIZE = (4000, 3000)
AFTER_TIMEOUT_S = 30


Load = Callable[[Server, float], str]
"""Loads a server for a number of seconds, and says what it answered."""


def send_lists(server: Server, seconds: float) -> str:
    """Four clients that send a body of 32 MiB, millions of empty lists."""
    lists = (BODY_BYTES - 20) // 3
    body = b'{"image":[' + b"[]," * lists + b"[]]}"
    return _send(server, body, 4, seconds)


def stall_bodies(server: Server, seconds: float) -> str:
    """Ninety bodies of 32 MiB of which the last byte never comes."""
    body = b'{"image":"' + b"A" * (BODY_BYTES - 12) + b'"}'
    opening = post(PATH, f"Content-Length: {len(body)}", body[:-1])
    with attackers(Attack("stalled", "stalled bodies", 90, [opening]), server) as found:
        time.sleep(seconds)
    counts = found[0]
    return f"{counts.opened} opened, {counts.failed} cut off, {counts.held} held at the end"


def send_photos(server: Server, seconds: float) -> str:
    """Four hundred connections that send photos of 12 megapixels and 2.9 MiB."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        photo.write_bytes(large_photo())
        return _send(server, photo_body(photo), 400, seconds)


LOADS: dict[str, tuple[str, Load]] = {
    "lists": ("4 clients, 32 MiB of empty lists", send_lists),
    "stalled": ("90 stalled bodies of 32 MiB", stall_bodies),
    "photos": ("400 connections, photos of 2.9 MiB", send_photos),
}


def _send(server: Server, body: bytes, connections: int, seconds: float) -> str:
    result = run_load(server.target(body), ClosedLoop(connections), seconds)
    return ", ".join(filter(None, (f"results: {len(result.answered())}", codes(result))))


def large_photo() -> bytes:
    """A JPEG of PHOTO_SIZE and nearly PHOTO_BYTES: a photo with as much noise as fits."""
    with Image.open(PROJECT_ROOT / "tests/photos/china.jpg") as photo:
        pixels = np.asarray(photo.convert("RGB").resize(PHOTO_SIZE), np.float32)
    noise = np.random.default_rng(0).normal(size=pixels.shape).astype(np.float32)
    best, low, high = b"", 0.0, 32.0
    for _ in range(6):
        strength = (low + high) / 2
        noisy = np.clip(pixels + strength * noise, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=85)
        if buffer.tell() <= PHOTO_BYTES:
            best, low = buffer.getvalue(), strength
        else:
            high = strength
    return best


@dataclass(frozen=True)
class Outcome:
    """One load.

    Attributes:
        answers: what it was answered.
        oom_kills: processes that the kernel killed; None without a cgroup.
        group_peak_mb: the most memory of the cgroup; None where that is unknown.
        worker_peak_mb: the highest resident memory of a worker that is still there.
        replaced: how many workers are others than before.
        health: health checks during the load.
        good_after_s: from the end of the load to the next result; None when there was none.
    """

    answers: str
    oom_kills: int | None
    group_peak_mb: float | None
    worker_peak_mb: float
    replaced: int
    health: HealthSummary
    good_after_s: float | None


def measure(server: Server, group: Group | None, load: Load, seconds: float) -> Outcome:
    """Load a server that is ready."""
    body = photo_body()
    run_load(server.target(body), ClosedLoop(8), 2)
    pids = server.worker_pids()
    with health_checks(server) as checks:
        begin = time.perf_counter()
        answers = load(server, seconds)
        end = time.perf_counter()
    good_after_s = _await_result(server, body, end)
    return Outcome(
        answers,
        group.oom_kills() if group else None,
        group.peak_mb() if group else None,
        server.peak_mb(),
        len(pids - server.worker_pids()),
        summarize(checks, begin, end),
        good_after_s,
    )


def _await_result(server: Server, body: bytes, end: float) -> float | None:
    while (waited_s := time.perf_counter() - end) < AFTER_TIMEOUT_S:
        with suppress(OSError, HTTPException):
            if b'"results"' in server.ask("POST", PATH, body, AFTER_TIMEOUT_S - waited_s)[1]:
                return time.perf_counter() - end
        time.sleep(0.1)
    return None


def is_kept(outcome: Outcome, limit_mb: int) -> bool:
    """Whether nothing was killed, the memory stayed within the limit and checks were in time."""
    health = outcome.health
    is_within = (
        outcome.worker_peak_mb <= limit_mb and not outcome.oom_kills and not outcome.replaced
    )
    return is_within and health.in_time == health.total and outcome.good_after_s is not None


def run(options: argparse.Namespace) -> dict[str, Outcome]:
    """Run every load, each on a fresh server in a fresh group."""
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        show_status("choosing the engine")
        Server(Path(folder), options.checkout, settings=options.setting).tune()
        for key in options.loads:
            name, load = LOADS[key]
            show_status(name)
            with memory_group(options.limit_mb * 1_000_000) as group:
                prefix = group.enter() if group else ()
                server = Server(Path(folder), options.checkout, prefix, settings=options.setting)
                with server.running():
                    outcomes[key] = measure(server, group, load, options.seconds)
    return outcomes


def _row(name: str, outcome: Outcome, limit_mb: int) -> list[str]:
    def optional(value: float | None, form: str) -> str:
        return "unknown" if value is None else format(value, form)

    return [
        name,
        optional(outcome.oom_kills, "d"),
        str(outcome.replaced),
        optional(outcome.group_peak_mb, ".0f"),
        f"{outcome.worker_peak_mb:.0f}",
        *outcome.health.cells(),
        optional(outcome.good_after_s, ".2f"),
        outcome.answers,
        "yes" if is_kept(outcome, limit_mb) else "no",
    ]


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, "memory_limit")
    parser.add_argument("--limit-mb", type=int, default=1500, help="megabytes of the cgroup")
    parser.add_argument("--loads", nargs="+", choices=[*LOADS], default=[*LOADS])
    parser.add_argument("--seconds", type=float, default=20, help="of each load")
    parser.add_argument("--checkout", type=Path, default=PROJECT_ROOT, help="whose server")
    return parser.parse_args()


def main() -> None:
    """Run the loads and print a row for each."""
    options = _options()
    allow_many_files()
    outcomes = run(options)
    has_group = all(outcome.oom_kills is not None for outcome in outcomes.values())
    text = (
        f"A memory cgroup of {options.limit_mb} MB; loads of {options.seconds:g} s."
        if has_group
        else f"No memory cgroup could be made here: resident memory against {options.limit_mb} MB."
    )
    head = (
        *("load", "OOM kills", "workers replaced", "group peak MB", "worker peak MB"),
        *("health in time", "slowest", "good answer after s", "answers", "kept"),
    )
    rows = [_row(LOADS[key][0], one, options.limit_mb) for key, one in outcomes.items()]
    figures: dict[str, Any] = {
        "limit_mb": options.limit_mb,
        "has_cgroup": has_group,
        "loads": {key: dataclasses.asdict(outcome) for key, outcome in outcomes.items()},
    }
    publish(options, f"{text}\n\n{table(head, rows)}", figures)


if __name__ == "__main__":
    main()
