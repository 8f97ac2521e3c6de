"""Runs a job on a Ray cluster: actors that hold the model, fed by Ray Data."""

import logging
import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.batch.job import Job, Shard, ShardRows
from app.batch.shards import ShardClassifier
from app.errors import OperatorError
from app.settings import Settings, read_settings

_NODE_SETTINGS = ("state_dir", "licence_dir")
"""Read on each node, because they are folders of its own."""


@dataclass(frozen=True)
class _Shipment:
    """A job, with the files of its package for nodes that do not have them."""

    job: Job
    files: dict[str, bytes]


class _Actor:
    """What Ray Data calls on each node."""

    def __init__(self, reference: Any) -> None:
        import ray

        shipment: _Shipment = ray.get(reference)
        own = read_settings(os.environ).settings
        kept = {name: getattr(own, name) for name in _NODE_SETTINGS}
        settings: Settings = replace(shipment.job.settings, **kept, inference_threads=1)
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        job = shipment.job
        # Deleted with the actor; loading a package needs its files.
        self._folder = tempfile.TemporaryDirectory(prefix="classifyd-batch-")
        package = Path(self._folder.name, job.package.parent.name, job.package.name)
        for name, content in shipment.files.items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self._classifier = ShardClassifier(replace(job, package=package, settings=settings))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        shards = map(pickle.loads, batch["shard"])
        return {"rows": [pickle.dumps(self._classifier.classify(shard)) for shard in shards]}


def run_on_ray(address: str, job: Job, shards: Sequence[Shard]) -> Iterator[ShardRows]:
    """Classify shards on a Ray cluster, and return them as they are complete.

    Args:
        address: of the cluster, as ``ray.init`` takes it.
        job: what to do; its source must be reachable from every node.
        shards: which photos.

    Raises:
        OperatorError: the cluster cannot be reached, or no node can do the work.
    """
    # Ray reports to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = _import_ray()
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as exc:
        raise OperatorError(f"no Ray cluster answers at {address}") from exc
    try:
        yield from _run(ray, job, shards)
    finally:
        ray.shutdown()


def _run(ray: Any, job: Job, shards: Sequence[Shard]) -> Iterator[ShardRows]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # A model for each CPU: Ray gives an actor whole CPUs, and nodes have different numbers.
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if not cpus:
        raise OperatorError("no node of the Ray cluster has a CPU")
    shipment = ray.put(_Shipment(job, _read_files(job.package)))
    # Serialised here: Ray Data would try to make columns of them.
    items = [{"shard": pickle.dumps(shard)} for shard in shards]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Actor,
        fn_constructor_args=(shipment,),
        batch_size=1,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(cpus, len(items))),
    )
    try:
        for row in dataset.iter_rows():
            yield pickle.loads(row["rows"])  # noqa: S301 - written by the actor
    except ray.exceptions.RayError as exc:
        raise OperatorError(f"the Ray cluster failed: {_reason(exc)}") from exc


def _import_ray() -> Any:
    try:
        import ray.data
    except ImportError as exc:
        raise OperatorError("--ray needs Ray: pip install 'classifyd[ray]'") from exc
    return ray


def _read_files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _reason(exc: BaseException) -> str:
    """Return the last line of an exception of Ray, which ends with the text of the cause."""
    return str(exc).strip().splitlines()[-1]
