"""What a gunicorn worker loads and calls."""

import gc
import os
from pathlib import Path

from app.factory import create_front
from app.observability.metrics import Metrics
from app.observability.metrics_folder import FOLDER_KEY
from app.settings import read_settings

# app/server/gunicorn_conf.py sets both: the slot for each worker, the folder once for all.
slot = int(os.environ.get("WORKER_SLOT", "0"))
metrics_folder = Path(os.environ[FOLDER_KEY]) if FOLDER_KEY in os.environ else None

# What is imported by now stays in memory: a full collection takes 6 ms then instead of 60.
gc.collect()
gc.freeze()
front = create_front(read_settings(os.environ).settings, Metrics(slot, metrics_folder), slot)
