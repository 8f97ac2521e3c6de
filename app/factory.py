"""The only place that joins the parts."""

from functools import partial

from flask import Flask

from app.access_tokens import AccessTokens
from app.api.batch import blueprint as batch_blueprint
from app.api.classify import blueprint as classify_blueprint
from app.api.console import blueprint as console_blueprint
from app.api.context import EXTENSION, WorkerContext
from app.api.cors import register_cors
from app.api.errors import register_error_handlers
from app.api.heatmap import blueprint as heatmap_blueprint
from app.api.lifecycle import register_lifecycle
from app.api.manual import blueprint as manual_blueprint
from app.api.pages import blueprint as pages_blueprint
from app.api.request_log import Recorder
from app.api.status import blueprint as status_blueprint
from app.inference.engines.base import cuda_count, gpu_uuid, use_one_thread_per_operation
from app.inference.engines.devices import resolve_device
from app.inference.queue import InferenceQueue
from app.inference.tuning.loader import TunedLoader
from app.inference.tuning.selection import engine_requirements
from app.inference.watchdog import Watchdog
from app.licence.licences import Licences
from app.limits.admission import Admission
from app.limits.body_memory import BodyMemory
from app.limits.core_gate import CoreGate
from app.limits.costly_images import CostlyImages
from app.limits.decode_memory import DecodeMemoryLimiter
from app.observability.log_ids import LogIds, node_number
from app.observability.metrics import Metrics
from app.observability.sampling import start_sampling
from app.server.front import Front
from app.serving.registry import ModelRegistry
from app.serving.status_file import StatusFile
from app.serving.watcher import WeightsWatcher
from app.settings import Settings
from app.system.heap import Heap
from app.system.priority import COMPUTE_NICENESS
from app.system.sizing import cpus_per_worker

IMAGE_THREADS_PER_CPU = 4
"""Native threads that decode, preprocess and infer, for each CPU that a worker may use."""

COSTLY_MEMORY = 0.8
"""Share of ``decode_memory_mb`` for costly images: at the smallest setting one of the largest."""


def create_front(settings: Settings, metrics: Metrics, slot: int = 0) -> Front:
    """Build what a worker calls; see create_app."""
    app = create_app(settings, metrics, slot)
    return Front(app, app.extensions[EXTENSION])


def create_app(settings: Settings, metrics: Metrics, slot: int = 0) -> Flask:
    """Load the models, warm them up and build the Flask app of one worker.

    Args:
        settings: the settings in force.
        metrics: where the worker counts what it does.
        slot: the worker's place, from 0; a replacement has the place of the worker before.

    Raises:
        SettingsError: the device is not there.
        PackageError: no package can be served.
    """
    app = Flask("classifyd", static_folder=None)
    # A redirect would answer an API client with HTML.
    app.url_map.merge_slashes = False
    app.jinja_env.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    app.extensions[EXTENSION] = context = build_context(settings, metrics, slot)
    context.recorder.start()
    start_sampling(partial(_sample, context, Heap()))
    register_lifecycle(app)
    register_error_handlers(app)
    register_cors(app, settings.cors_origins)
    app.register_blueprint(classify_blueprint)
    app.register_blueprint(batch_blueprint)
    app.register_blueprint(heatmap_blueprint)
    app.register_blueprint(status_blueprint)
    app.register_blueprint(pages_blueprint)
    app.register_blueprint(manual_blueprint)
    if settings.console == "on":
        app.register_blueprint(console_blueprint)
    return app


def build_context(settings: Settings, metrics: Metrics, slot: int) -> WorkerContext:
    """Build what the views work with; see create_app."""
    use_one_thread_per_operation()
    node = node_number(settings.node_id, settings.state_dir)
    metrics.show_node(node, settings.max_in_flight)
    device = resolve_device(settings.device, slot, cuda_count())
    requirements = engine_requirements(settings, device)
    cores = CoreGate(cpus_per_worker(settings))
    # Before the models: "activate --wait" also waits for a worker that is starting.
    status = StatusFile(settings, slot)
    licences = Licences(settings.licence_dir, settings.state_dir, device, gpu_uuid(device))
    loader = TunedLoader(requirements, settings.state_dir)
    queue = InferenceQueue(requirements.threads, cores, COMPUTE_NICENESS)
    models = ModelRegistry(settings.weights_dir, loader.load, queue, licences.unlock)
    models.require_any()
    WeightsWatcher(models, status).start()
    licences.watch(models.retry, models.publishers)
    watchdog = Watchdog(queue, settings.hang_timeout_s)
    watchdog.start()
    decode_bytes = settings.decode_memory_mb * 1_000_000
    costly_bytes = int(decode_bytes * COSTLY_MEMORY)
    return WorkerContext(
        settings=settings,
        models=models,
        licences=licences,
        admission=Admission(settings.max_in_flight),
        cores=cores,
        body_memory=BodyMemory(settings.body_memory_mb * 1_000_000),
        decode_memory=DecodeMemoryLimiter(decode_bytes - costly_bytes),
        costly_images=CostlyImages(
            cpus_per_worker(settings),
            max(1, settings.max_in_flight // 2),
            cores,
            DecodeMemoryLimiter(costly_bytes),
        ),
        log_ids=LogIds(settings.state_dir, node),
        metrics=metrics,
        recorder=Recorder(models, metrics),
        tokens=AccessTokens(settings.tokens_path()) if settings.access_tokens == "on" else None,
        watchdog=watchdog,
        image_threads=IMAGE_THREADS_PER_CPU * cpus_per_worker(settings),
    )


def _sample(context: WorkerContext, heap: Heap) -> None:
    """Record what the worker is busy with, what memory it takes and what it serves."""
    waiting = max(0, context.admission.in_flight() - context.image_threads)
    waiting += context.cores.waiting() + context.costly_images.waiting()
    waiting += context.models.queue.depth()
    context.metrics.show_load(context.admission.in_flight(), waiting, heap.trim())
    context.metrics.show_models(context.models.describe(), context.models.is_ready())
    context.metrics.show_licences(context.licences.describe())
