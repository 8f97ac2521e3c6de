"""The same work without HTTP: all cores, each batch size, the engine that the server chose.

Prints one JSON line: images in a second of the best batch size.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

from app.inference.engines.base import Engine, use_one_thread_per_operation
from app.inference.preparation import prepare_image
from app.inference.tuning.loader import TunedLoader
from app.inference.tuning.selection import engine_requirements
from app.packages.package import Package, load_package
from app.settings import read_settings


def measure(package: Package, engine: Engine, data: bytes, batch: int, time_s: float) -> float:
    """Images in a second from the file's bytes to the model's output."""
    threads, end = len(os.sched_getaffinity(0)), time.monotonic() + time_s
    counts = [0] * threads

    def work(index: int) -> None:
        while time.monotonic() < end:
            images = [prepare_image(data, package)[1] for _ in range(batch)]
            engine.infer(np.stack(images))
            counts[index] += batch

    started = time.monotonic()
    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.monotonic() - started)


def main(folder: str, photo: str, time_s: str) -> None:
    """Measure and print."""
    use_one_thread_per_operation()
    settings = read_settings(os.environ).settings
    package, data = load_package(Path(folder)), Path(photo).read_bytes()
    requirements, rates = engine_requirements(settings, "cpu"), []
    for batch in (1, 2, 4):
        engine = TunedLoader(requirements, settings.state_dir, batch).load(package).engine
        measure(package, engine, data, batch, 0.5)
        rates.append(measure(package, engine, data, batch, float(time_s) / 3))
    sys.stdout.write(json.dumps({"engine": engine.name, "rate": max(rates)}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
