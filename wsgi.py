"""The WSGI entry point of a gunicorn worker."""

import os

from app.factory import create_app
from app.settings import read_settings

app = create_app(
    read_settings(os.environ).settings,
    # Set for each worker by gunicorn.conf.py.
    slot=int(os.environ.get("WORKER_SLOT", "0")),
)
