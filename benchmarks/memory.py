"""Resident memory of one worker over many requests, at 8 connections.

    .venv/bin/python -m benchmarks.memory --requests 50000

The photos of tests/photos and crops of them from 15 to 4096 px, as jpg, png and bmp, go to the
demo model in turn. Every answer must be a result.
"""

import argparse
import io
import json
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image

from benchmarks.support import PATH, PROJECT_ROOT, ClosedLoop, Target, run_load
from tests.support.images import PHOTOS, to_base64
from tests.support.server import Server

CONNECTIONS = 8
SLICE_S = 10
PAUSE_S = 1
"""Before memory is read, so that the last images have been freed."""

SIZES = (
    *((15, 15), (48, 64), (120, 90), (224, 224), (320, 240), (500, 333), (640, 480), (33, 900)),
    *((800, 600), (1024, 768), (1280, 720), (4096, 300)),
)
KINDS = ("JPEG", "PNG", "BMP")
LARGE_SIZES = ((1600, 1200), (1920, 1080), (2592, 1944), (4000, 3000), (4096, 4096))
"""As jpg only, as cameras make them; each as baseline and as progressive."""

MAX_BASE64 = 4_194_304


def bodies() -> list[bytes]:
    """Requests with images of every size and kind that the API accepts."""
    photos = sorted(path for path in PHOTOS.iterdir() if path.suffix in {".jpg", ".png", ".bmp"})
    files = [path.read_bytes() for path in photos]
    for index, size in enumerate(SIZES):
        with Image.open(photos[index % len(photos)]) as photo:
            scaled = photo.convert("RGB").resize(size)
        files += [_encode(scaled, kind) for kind in KINDS]
    with Image.open(photos[0]) as photo:
        for size in LARGE_SIZES:
            scaled = photo.convert("RGB").resize(size)
            files += [_encode(scaled, "JPEG"), _encode(scaled, "JPEG", progressive=True)]
    texts = [to_base64(data) for data in files]
    return [json.dumps({"image": text}).encode() for text in texts if len(text) <= MAX_BASE64]


def _encode(image: Image.Image, kind: str, **options: bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def measure(server: Server, requests: int, first: int) -> tuple[float, float]:
    """Send the requests; resident MB after ``first`` and after all of them."""
    target = Target("127.0.0.1", server.port, PATH, bodies())
    process = psutil.Process(server.worker_pids()[0])
    print(f"{len(target.bodies)} images; {_resident_mb(process):.0f} MB before the first request")
    sent, seen, started = 0, [], time.monotonic()
    while sent < requests:
        result = run_load(target, ClosedLoop(CONNECTIONS), SLICE_S)
        if set(result.latencies_ms) != {0}:
            raise SystemExit(f"not every answer is a result: {list(result.latencies_ms)}")
        sent += len(result.answered())
        time.sleep(PAUSE_S)
        seen.append((sent, _resident_mb(process)))
        print(f"{sent:>7} requests {time.monotonic() - started:>6.0f} s {seen[-1][1]:>6.1f} MB")
    return next(mb for count, mb in seen if count >= first), seen[-1][1]


def _resident_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6


def main() -> None:
    """Start a server of its own, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--first", type=int, default=2_000)
    parser.add_argument("--weights", type=Path, default=PROJECT_ROOT / "weights")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as state,
        Server(options.weights, Path(state), engine="auto") as server,
    ):
        early, late = measure(server, options.requests, options.first)
    print(f"after {options.first}: {early:.0f} MB, after {options.requests}: {late:.0f} MB")
    print(f"ratio {late / early:.3f} (at most 1.03), one worker {late:.0f} MB (at most 600)")


if __name__ == "__main__":
    main()
