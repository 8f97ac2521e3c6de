"""The only place that joins the parts."""

from flask import Flask

from app.api.bodies import MAX_BODY_BYTES
from app.api.classify import blueprint as classify_blueprint
from app.api.errors import register_error_handlers
from app.api.lifecycle import register_lifecycle
from app.api.parts import Parts
from app.api.patience import Patience
from app.api.status import blueprint as status_blueprint
from app.inference.admission import Admission
from app.inference.choice import demand_of
from app.inference.decode_budget import DecodeBudget
from app.inference.devices import resolve_device
from app.inference.engine import card_uuid, cuda_count, use_one_thread_per_operation
from app.inference.loader import TunedLoader
from app.inference.models import Models
from app.inference.reload import Reloader
from app.inference.watchdog import Watchdog
from app.licence.licences import Licences
from app.log_ids import LogIds
from app.settings import Settings
from app.worker_status import StatusFile


def create_app(settings: Settings, slot: int = 0) -> Flask:
    """Load the models, warm them up and build the WSGI app of one worker.

    Args:
        settings: the settings in force.
        slot: the worker's place, from 0; a replacement has the place of the worker before.

    Raises:
        SettingsError: the device is not there.
        PackageError: no package can be served.
    """
    app = Flask("classifyd", static_folder=None)
    # A redirect would answer an API client with HTML.
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1  # one more, to see that a body is longer
    app.extensions["classifyd"] = join_parts(settings, slot)
    register_lifecycle(app)
    register_error_handlers(app)
    app.register_blueprint(classify_blueprint)
    app.register_blueprint(status_blueprint)
    return app


def join_parts(settings: Settings, slot: int) -> Parts:
    """Make the parts that the views work with; see create_app."""
    use_one_thread_per_operation()
    device = resolve_device(settings.device, slot, cuda_count())
    demand = demand_of(settings, device)
    # Before the models: whoever waits for an activation waits for a worker that starts, too.
    status = StatusFile(settings.state_dir, settings.weights_dir, slot)
    licences = Licences(settings.licence_dir, settings.state_dir, device, card_uuid(device))
    loader = TunedLoader(demand, settings.state_dir)
    models = Models(settings.weights_dir, loader, demand.threads, licences.unlock)
    models.require_any()
    Reloader(models, status).start()
    licences.watch(models.retry)
    Watchdog(models.queue, settings.hang_timeout_s).start()
    return Parts(
        settings=settings,
        models=models,
        licences=licences,
        admission=Admission(settings.max_in_flight),
        decode_budget=DecodeBudget(settings.decode_memory_mb * 1_000_000),
        log_ids=LogIds(settings.state_dir),
        patience=Patience(settings.read_timeout_s, settings.body_timeout_s),
    )
