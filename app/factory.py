"""The only place that joins the parts."""

from functools import partial

from flask import Flask

from app.access_tokens import AccessTokens
from app.api.batch import blueprint as batch_blueprint
from app.api.classify import blueprint as classify_blueprint
from app.api.console import blueprint as console_blueprint
from app.api.context import WorkerContext
from app.api.cors import register_cors
from app.api.errors import register_error_handlers
from app.api.lifecycle import register_lifecycle
from app.api.pages import blueprint as pages_blueprint
from app.api.patience import Patience
from app.api.refusal import Refuser
from app.api.request_log import Recorder
from app.api.service import Service
from app.api.status import blueprint as status_blueprint
from app.inference.engines.base import cuda_count, gpu_uuid, use_one_thread_per_operation
from app.inference.engines.devices import resolve_device
from app.inference.queue import InferenceQueue
from app.inference.tuning.loader import TunedLoader
from app.inference.tuning.selection import engine_requirements
from app.inference.watchdog import Watchdog
from app.licence.licences import Licences
from app.limits.admission import Admission
from app.limits.core_gate import CoreGate
from app.limits.decode_memory import DecodeMemoryLimiter
from app.observability.log_ids import LogIds
from app.observability.metrics import Metrics
from app.observability.sampling import start_sampling
from app.serving.registry import ModelRegistry
from app.serving.status_file import StatusFile
from app.serving.watcher import WeightsWatcher
from app.settings import Settings
from app.system.heap import Heap
from app.system.sizing import cpus_per_worker


def create_app(settings: Settings, metrics: Metrics, slot: int = 0) -> Flask:
    """Load the models, warm them up and build the WSGI app of one worker.

    Args:
        settings: the settings in force.
        metrics: where the worker counts what it does.
        slot: the worker's place, from 0; a replacement has the place of the worker before.

    Raises:
        SettingsError: the device is not there.
        PackageError: no package can be served.
    """
    app = Service("classifyd", static_folder=None)
    # A redirect would answer an API client with HTML.
    app.url_map.merge_slashes = False
    app.jinja_env.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    app.extensions["classifyd"] = build_context(settings, metrics, slot)
    app.extensions["classifyd_refuser"] = Refuser(app.extensions["classifyd"])
    app.extensions["classifyd"].recorder.start()
    start_sampling(partial(_sample, app.extensions["classifyd"], Heap()))
    register_lifecycle(app)
    register_error_handlers(app)
    register_cors(app, settings.cors_origins)
    app.register_blueprint(classify_blueprint)
    app.register_blueprint(batch_blueprint)
    app.register_blueprint(status_blueprint)
    app.register_blueprint(pages_blueprint)
    if settings.console == "on":
        app.register_blueprint(console_blueprint)
    return app


def build_context(settings: Settings, metrics: Metrics, slot: int) -> WorkerContext:
    """Make the parts that the views work with; see create_app."""
    use_one_thread_per_operation()
    device = resolve_device(settings.device, slot, cuda_count())
    requirements, cores = engine_requirements(settings, device), CoreGate(cpus_per_worker(settings))
    # Before the models: whoever waits for an activation waits for a worker that starts, too.
    status = StatusFile(settings.state_dir, settings.weights_dir, slot)
    licences = Licences(settings.licence_dir, settings.state_dir, device, gpu_uuid(device))
    loader = TunedLoader(requirements, settings.state_dir)
    queue = InferenceQueue(requirements.threads, cores)
    models = ModelRegistry(settings.weights_dir, loader.load, queue, licences.unlock)
    models.require_any()
    WeightsWatcher(models, status).start()
    licences.watch(models.retry, models.publishers)
    Watchdog(queue, settings.hang_timeout_s).start()
    return WorkerContext(
        settings=settings,
        models=models,
        licences=licences,
        admission=Admission(settings.max_in_flight),
        cores=cores,
        decode_memory=DecodeMemoryLimiter(settings.decode_memory_mb * 1_000_000),
        log_ids=LogIds(settings.state_dir),
        patience=Patience(settings.read_timeout_s, settings.body_timeout_s),
        metrics=metrics,
        recorder=Recorder(models, metrics),
        tokens=AccessTokens(settings.tokens_path()) if settings.access_tokens == "on" else None,
    )


def _sample(parts: WorkerContext, heap: Heap) -> None:
    """Show what the worker is busy with, what it takes and what it serves."""
    waiting = parts.cores.waiting() + parts.models.queue.depth()
    parts.metrics.show_load(parts.admission.in_flight(), waiting, heap.trim())
    parts.metrics.show_models(parts.models.describe())
    parts.metrics.show_licences(parts.licences.describe())
