"""The WSGI entry point of a gunicorn worker."""

import gc
import os
from pathlib import Path

from app.factory import create_app
from app.observability.metrics import Metrics
from app.observability.metrics_folder import FOLDER_KEY
from app.settings import read_settings

# Both are set by gunicorn.conf.py: the slot for each worker, the folder once for all.
slot = int(os.environ.get("WORKER_SLOT", "0"))
metrics_folder = Path(os.environ[FOLDER_KEY]) if FOLDER_KEY in os.environ else None

# What is imported by now stays for ever: without it, a full collection takes 6 ms and not 60.
gc.collect()
gc.freeze()
app = create_app(read_settings(os.environ).settings, Metrics(slot, metrics_folder), slot)
