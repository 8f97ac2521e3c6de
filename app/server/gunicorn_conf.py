"""gunicorn's configuration, a file that gunicorn runs again on SIGHUP.

It runs in the master process and imports neither torch nor OpenCV: an OpenMP runtime does
not survive a fork, and a small master survives everything.
"""

import logging
import os
import sys
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from app.errors import OperatorError
from app.observability.log_format import configure_logging, finish_start
from app.observability.metrics_folder import FOLDER_KEY, open_metrics_folder
from app.server.certificate import log_faults
from app.server.preflight import (
    check_start,
    describe_start,
    free_slot,
    listen_address,
    open_log_file,
)
from app.server.tls import tls_context
from app.server.worker import Worker
from app.serving.status_file import live_workers
from app.settings import PROJECT_ROOT, read_settings
from app.system.cpus import raise_file_limit
from app.system.heap import bound_heap
from app.system.sizing import worker_count

try:
    resolved = read_settings(os.environ)
    settings = resolved.settings
    configure_logging(settings.log_format, settings.log_level, open_log_file(settings))
except OperatorError as exc:
    sys.exit(f"classifyd: {exc}")

if resolved.ignored:
    logging.getLogger("classifyd").warning(
        "ignored, because a Kubernetes Service named classifyd sets them: %s; "
        "enableServiceLinks: false keeps them out of the pod",
        ", ".join(resolved.ignored),
    )

bound_heap()

MAX_CONNECTIONS = 16384
"""Of a worker, at some kilobytes each; beyond it the longest idle one makes room."""

OTHER_FILES = 256
"""Other files that a worker may have open: models, logs, metrics, libraries."""

MIN_FILES = 1024
"""The limit of open files that most systems start a process with; it leaves 768 connections."""

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - for files that gunicorn makes and removes at once

files = raise_file_limit(MAX_CONNECTIONS + OTHER_FILES)
if files < MIN_FILES:
    sys.exit(
        f"classifyd: the limit of open files is {files}, at least {MIN_FILES} are needed; raise "
        "it with ulimit -n 65536, or LimitNOFILE=65536 in a systemd unit"
    )

wsgi_app = "app.wsgi:front"
chdir = str(PROJECT_ROOT)  # gunicorn imports from this folder first
proc_name = "classifyd"
bind = listen_address(settings)
worker_class = "app.server.worker.Worker"
logger_class = "app.server.worker.Logger"
workers = worker_count(settings)
worker_connections = min(MAX_CONNECTIONS, files - OTHER_FILES)
keepalive = 75  # longer than the usual 60 s of a reverse proxy, which must be the one to close
backlog = 2048
timeout = settings.start_timeout_s
graceful_timeout = settings.grace_period_s
limit_request_line = 8190  # the largest that gunicorn accepts: tokens travel in the query string
certfile = settings.tls_certificate and str(settings.tls_certificate)
keyfile = settings.tls_key and str(settings.tls_key)
control_socket_disable = True
# What a proxy has to say about addresses is nothing that a response depends on: pages have relative
# links. So no header changes the path or the scheme, from no address.
forwarder_headers = ""
forwarded_allow_ips = "*"  # so that gunicorn does not look at addresses either
secure_scheme_headers: dict[str, str] = {}
os.environ.pop("SCRIPT_NAME", None)  # gunicorn would remove it from the path of each request
# Nothing is written outside state_dir. A heartbeat touches this file every second, and waits where
# the disk does; in memory it never waits.
worker_tmp_dir = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else str(settings.state_dir)

ssl_context = tls_context


def on_starting(server: Any) -> None:
    """Refuse to start where no worker could work."""
    fixed = {"worker_class": Worker, "http_protocols": ["h1"], "proxy_protocol": "off"}
    for name, value in fixed.items():
        if getattr(server.cfg, name) != value:
            sys.exit(f"classifyd: {name} of gunicorn cannot be changed; leave it out")
    try:
        check_start(settings)
        os.environ[FOLDER_KEY] = str(open_metrics_folder(settings.state_dir))
    except OperatorError as exc:
        sys.exit(f"classifyd: {exc}")
    except OSError as exc:
        sys.exit(f"classifyd: setting state_dir: {exc.filename}: {exc.strerror}")
    load_certificate(server)


def on_reload(server: Any) -> None:
    """Read the certificate again on SIGHUP, for the new workers."""
    load_certificate(server)


def load_certificate(server: Any) -> None:
    """Load the certificate that workers serve from their start, and say what is wrong with it."""
    if server.cfg.is_ssl:
        tls_context(server.cfg, None)
        log_faults(settings)


def pre_fork(server: Any, worker: Any) -> None:
    """Give a worker the lowest free slot; a replacement takes the place of the one before."""
    worker.slot = free_slot(other.slot for other in server.WORKERS.values())


def post_fork(server: Any, worker: Any) -> None:
    """Tell the app its slot."""
    os.environ["WORKER_SLOT"] = str(worker.slot)


def post_worker_init(worker: Any) -> None:
    """Say once, when the first worker is warm, where to call."""
    finish_start()
    if worker.age == 1:
        status = live_workers(settings.state_dir, settings.weights_dir, worker.pid)
        sys.stdout.write(describe_start(settings, status[0].names if status else {}))
        sys.stdout.flush()


def pre_exec(server: Any) -> None:
    """Repeat the command of this process on SIGUSR2, with the interpreter's own options.

    gunicorn would repeat ``sys.argv`` (``Arbiter.START_CTX``, held by
    tests/unit/test_worker_base.py): after ``python -m gunicorn`` that is a path in its own
    package, whose module http would hide the standard library's.
    """
    server.START_CTX["args"] = [sys.executable, *sys.orig_argv[1:]]


def child_exit(server: Any, worker: Any) -> None:
    """Drop the gauges of a dead worker; its counters stay."""
    worker.balance.clear(worker.slot)
    folder = os.environ[FOLDER_KEY]
    mark_process_dead(worker.slot, folder)  # type: ignore[no-untyped-call] # it has no types
