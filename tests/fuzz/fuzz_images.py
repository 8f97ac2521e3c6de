"""Mutated image files through guard and decode, in a child process of bounded memory and time.

``python -m tests.fuzz.fuzz_images`` runs 20,000 mutations of each format. A mutation that
crashes, hangs, takes too long or too much memory, or raises anything but a documented error is
written to a file and named; the exit status is then 1.
"""

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
FORMATS = ("jpg", "png", "bmp")

MAX_SECONDS = 1.0
"""Of the processor, for one file."""

MAX_GROWTH_MIB = 200
"""Of a child's memory, over all its files."""

ADDRESS_SPACE_MIB = 1024
"""Beyond what the child has mapped when it starts: an allocation of gigabytes fails."""

HANG_S = 30

_OUT_OF_MEMORY = -4
"""``cv::Error::StsNoMem``, which ``decode`` would report as a damaged file."""


@dataclass(frozen=True)
class Verdict:
    """What became of one mutation; a problem is what must not happen."""

    index: int
    outcome: str
    seconds: float = 0.0
    problem: str = ""


def fuzz(image_format: str, mutations: int, seed: int) -> list[Verdict]:
    """Run mutations 0 to ``mutations``; a child that dies is replaced.

    Raises:
        RuntimeError: a child prints on standard error, which must stay silent.
    """
    verdicts: list[Verdict] = []
    while len(verdicts) < mutations:
        verdicts += _run_child(image_format, len(verdicts), mutations, seed)
    return verdicts


def make_mutation(image_format: str, index: int, seed: int) -> bytes:
    """Make a mutation again from its number."""
    from tests.fuzz.mutations import make_seeds, mutate

    rng = np.random.default_rng([seed, FORMATS.index(image_format), index])
    return mutate(image_format, rng, make_seeds()[image_format])


def _run_child(image_format: str, start: int, stop: int, seed: int) -> list[Verdict]:
    arguments = [image_format, str(start), str(stop), str(seed)]
    child = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzz_images", "--child", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if child.stderr or child.returncode > 0:
        raise RuntimeError(child.stderr)
    verdicts = [Verdict(**json.loads(line)) for line in child.stdout.splitlines()]
    if child.returncode:
        problem = f"the child died of signal {-child.returncode}"
        verdicts.append(Verdict(start + len(verdicts), "", problem=problem))
    return verdicts


def _judge(image_format: str, start: int, stop: int, seed: int) -> None:
    # Imported before the memory is limited, and by the child alone.
    import app.imaging.decode  # noqa: F401
    from tests.fuzz.mutations import make_seeds, mutate

    seeds = make_seeds()[image_format]
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = mapped + (ADDRESS_SPACE_MIB << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start_mib = _peak_mib()
    for index in range(start, stop):
        rng = np.random.default_rng([seed, FORMATS.index(image_format), index])
        data = mutate(image_format, rng, seeds)
        # Unhandled, it ends the process even inside a decoder.
        signal.alarm(HANG_S)
        verdict = _judge_one(index, data)
        if _peak_mib() - start_mib > MAX_GROWTH_MIB:
            verdict = replace(verdict, problem=f"took {_peak_mib() - start_mib:.0f} MiB")
            start_mib = _peak_mib()
        sys.stdout.write(json.dumps(asdict(verdict)) + "\n")
        sys.stdout.flush()


def _judge_one(index: int, data: bytes) -> Verdict:
    from app.errors import ApiError, ImageDecodeFailed, InvalidImageSize
    from app.imaging.decode import decode
    from app.imaging.guard import guard

    started_s = time.process_time()
    problem = ""
    try:
        decode(*guard(data))
        outcome = "ok"
    except (ImageDecodeFailed, InvalidImageSize) as exc:
        outcome = exc.detail
        if not (exc.detail.isascii() and exc.detail.isprintable()):
            problem = "its detail is not printable"
        if getattr(exc.__cause__, "code", None) == _OUT_OF_MEMORY:
            problem = f"allocated more than {ADDRESS_SPACE_MIB} MiB"
    except (ApiError, Exception) as exc:
        outcome, problem = "", f"raised {exc!r}"
    seconds = time.process_time() - started_s
    if seconds > MAX_SECONDS:
        problem = f"took {seconds:.1f} s"
    return Verdict(index, outcome, seconds, problem)


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _report(image_format: str, verdicts: list[Verdict], seed: int) -> int:
    """Print the outcomes, and return how many are problems."""
    kinds = Counter(re.sub(r"0x\w+|\d+", "N", v.outcome) for v in verdicts)
    slowest = max(verdicts, key=lambda verdict: verdict.seconds)
    lines = [
        f"{image_format}: {len(verdicts)} mutations, {kinds['ok']} decoded, at most "
        f"{slowest.seconds:.3f} s (number {slowest.index})",
        *(f"  {count:6} {kind}" for kind, count in kinds.most_common()),
    ]
    problems = [verdict for verdict in verdicts if verdict.problem]
    for verdict in problems:
        path = Path(f"fuzz-{image_format}-{seed}-{verdict.index}")
        path.write_bytes(make_mutation(image_format, verdict.index, seed))
        lines.append(f"{path}: {verdict.problem}")
    sys.stdout.write("\n".join([*lines, ""]))
    return len(problems)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=20_000, help="of each format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", choices=FORMATS, action="append", dest="formats")
    arguments = parser.parse_args()
    problems = 0
    for image_format in arguments.formats or FORMATS:
        verdicts = fuzz(image_format, arguments.mutations, arguments.seed)
        problems += _report(image_format, verdicts, arguments.seed)
    return 1 if problems else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _judge(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        sys.exit(main())
