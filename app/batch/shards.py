"""Classifies the photos of a shard with a model of this process, as the server does."""

import errno
import logging
import os
from collections.abc import Callable
from dataclasses import replace

from app.batch.job import Job, Shard, ShardRows
from app.batch.photos import MAX_FILE_BYTES, Content, Photo, Read, to_text
from app.batch.rows import FORMATS, Model, Row, count_codes
from app.errors import (
    ApiError,
    AuthFailed,
    InternalError,
    InvalidImageSize,
    ModelUnavailable,
    OperatorError,
)
from app.inference.classifier import Classifier, deadline_after, load_classifier
from app.inference.engines.base import (
    LoadedEngine,
    cuda_count,
    gpu_uuid,
    use_one_thread_per_operation,
)
from app.inference.engines.devices import resolve_device
from app.inference.preparation import prepare_image
from app.inference.queue import InferenceQueue
from app.inference.scores import rank
from app.inference.tuning.loader import TunedLoader
from app.inference.tuning.selection import engine_requirements
from app.licence.licences import Licences
from app.limits.core_gate import CoreGate
from app.packages.package import Package, load_package
from app.system.sizing import cpus_per_worker

_log = logging.getLogger(__name__)

_DEADLINE_MS = 3_600_000

THREADS_PER_CPU_FAR = 16
"""For a source whose photos come over a network: most of them wait."""

IMAGES_PER_GPU = 64
"""Two batches of the largest size that is measured for a GPU."""


class ShardClassifier:
    """The package's model, for several threads of which each classifies a shard.

    The engine is the one that the server selects with the same settings. On a CPU each image is
    computed alone and on one core, so that its scores do not depend on its neighbours.

    Attributes:
        threads: number of shards that should be classified at once.

    Args:
        job: what to do.
        slot: selects the GPU, from 0.
        note_row: called after each photo.

    Raises:
        OperatorError: the source cannot be reached, or the package cannot be loaded here.
    """

    def __init__(
        self, job: Job, slot: int = 0, note_row: Callable[[], object] = lambda: None
    ) -> None:
        use_one_thread_per_operation()
        job.reader.check()
        self._job, self._note_row = job, note_row
        device = resolve_device(job.settings.device, slot, cuda_count())
        self._licences = Licences(
            job.settings.licence_dir, job.settings.state_dir, device, gpu_uuid(device)
        )
        package = self._unlock(load_package(job.package))
        requirements = engine_requirements(job.settings, device)
        loader = TunedLoader(requirements, job.settings.state_dir)
        cpus = cpus_per_worker(job.settings)
        self._cores = CoreGate(cpus)
        queue = InferenceQueue(requirements.threads, self._cores)

        def load(package: Package) -> LoadedEngine:
            loaded = loader.load(package)
            return loaded if device != "cpu" else replace(loaded, max_batch=1, latency_engine=None)

        self._classifier: Classifier = load_classifier(package, load, queue)
        threads = cpus * (THREADS_PER_CPU_FAR if job.reader.latency else 1)
        self.threads = threads if device == "cpu" else max(threads, IMAGES_PER_GPU)

    def classify(self, shard: Shard) -> ShardRows:
        """Classify the photos of a shard, one after the other; for ``threads`` threads.

        Raises:
            OperatorError: the source is gone, or the licence no longer covers this machine.
        """
        manifest, job = self._classifier.package.manifest, self._job
        try:
            self._licences.require(manifest)
        except AuthFailed as exc:
            raise OperatorError(f"{manifest.name}: {exc.detail}") from exc
        reads = job.reader.read(shard.photos)
        rows = [self._row(*pair) for pair in zip(shard.photos, reads, strict=True)]
        model = Model(manifest.name, manifest.version, self._classifier.package.digest)
        top_num = min(job.top_num, manifest.output.classes)
        content = FORMATS[job.row_format].encode(rows, model, top_num)
        return ShardRows(shard.index, content, count_codes([row.error_code for row in rows]))

    def _unlock(self, package: Package) -> Package:
        spec = package.manifest.licence
        if spec is None:
            return package
        package = replace(package, content_key=self._licences.unlock(package.manifest))
        needed = {package.manifest.name: {spec.publisher_key}}
        self._licences.watch(lambda _: None, lambda: needed)
        return package

    def _row(self, photo: Photo, read: Read) -> Row:
        row = self._classify(to_text(photo.name), read)
        self._note_row()
        return row

    def _classify(self, path: str, read: Read) -> Row:
        sha256 = None
        try:
            content = _read(read)
            sha256 = content.sha256
            if content.data is None:
                raise InvalidImageSize(
                    f"the file has {content.size} bytes, at most {MAX_FILE_BYTES} wanted"
                )
            package, deadline = self._classifier.package, deadline_after(_DEADLINE_MS)
            with self._cores.prepare(deadline):
                _, model_input = prepare_image(content.data, package)
            scores = self._classifier.infer(model_input, deadline, in_caller=True).scores
            return Row(path, sha256, rank(scores, package.labels, self._job.top_num))
        except (ModelUnavailable, OperatorError, MemoryError):
            raise  # not the fault of this photo
        except ApiError as exc:
            return Row(path, sha256, (), exc.error_code, exc.detail)
        except Exception:
            _log.exception("%s failed", path)
            return Row(path, sha256, (), InternalError.error_code, "an unexpected failure")


def _read(read: Read) -> Content:
    try:
        return read()
    except (OSError, ValueError) as exc:
        # A ValueError is a NUL in a path.
        reason = os.strerror(getattr(exc, "errno", None) or errno.ENOENT)
        raise InternalError(f"the file cannot be read: {reason}") from exc
