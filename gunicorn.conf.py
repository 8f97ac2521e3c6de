"""Plain ``gunicorn`` in this folder starts the server; its configuration is in ``app/server``."""

import sys

# gunicorn runs this file again on SIGHUP, and the settings must then be read again.
sys.modules.pop("app.server.gunicorn_conf", None)

from app.server.gunicorn_conf import *  # noqa: E402, F403 - every name is a setting of gunicorn
