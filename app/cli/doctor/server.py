"""The running server, its log and its reverse proxy, for ``classifyd doctor``."""

import json
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from app.cli.doctor.finding import Finding, Findings, Level
from app.reporting.counts import pluralise
from app.server.preflight import (
    describe_bind_error,
    listen_address,
    local_url,
    probe_address,
)
from app.serving.status_file import live_workers
from app.settings import Settings

SERVER_TIMEOUT_S = 10
LOG_TIMEOUT_S = 20
MAX_LOG_LINES = 2000
MAX_LOG_BYTES = 2**20
MAX_SHOWN_ERRORS = 5

MIN_PROXY_BODY_MB = 33
"""The server reads bodies of up to 32 MiB to the end, so that clients can read the error."""

NGINX_FOLDER = Path("/etc/nginx")
DISABLED_SITES = "sites-available"
"""Debian enables a site with a link to it in sites-enabled."""


def check_server(settings: Settings) -> Findings:
    """Check that the server on this machine is ready, and report what it serves."""
    address = listen_address(settings)
    ready = fetch_readiness(settings)
    if ready is None:
        yield _check_port(settings, address)
        return
    if ready["ready"]:
        yield Finding("ok", "port", f"the server at {address} is ready")
    else:
        to_do = "see the names below, and the log"
        yield Finding("failure", "port", f"the server at {address} is not ready", to_do)
    if "serving" not in ready:
        yield from _check_names(settings)
    for name, reason in ready.get("reasons", {}).items():
        yield Finding("failure", "engine", f"{name} is not served: {reason}", "fix the package")
    for name, pending in ready.get("pending", {}).items():
        version, reason = pending["version"], pending["reason"]
        text = f"{name}/{version} is active, but an earlier version is served: {reason}"
        to_do = f"fix it, or roll back: classifyd package rollback {name}"
        yield Finding("warning", "engine", text, to_do)
    for name, model in ready.get("serving", {}).items():
        text = f"{name}/{model['version']} by {model['engine']} on {model['device']}"
        yield Finding("ok", "engine", text)


def _check_names(settings: Settings) -> Findings:
    """Find what is served in the workers' files: with access tokens /readyz does not tell."""
    workers = live_workers(settings.state_dir, settings.weights_dir)
    names = {name: status for worker in workers for name, status in worker.names.items()}
    for name, status in sorted(names.items()):
        served = f"{name}/{status.version} is served" if status.version else f"{name} is not served"
        level: Level = "ok" if not status.problem else "warning" if status.version else "failure"
        to_do = "fix the package" if status.problem else ""
        yield Finding(level, "engine", f"{served}: {status.problem}".rstrip(": "), to_do)


def fetch_readiness(settings: Settings) -> dict[str, Any] | None:
    """Fetch ``/readyz``; None if no classifyd answers."""
    # The certificate is for the name that clients use, not for 127.0.0.1.
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)
    )
    url = f"{local_url(settings)}/readyz"
    try:
        with opener.open(url, timeout=SERVER_TIMEOUT_S) as response:
            body = response.read()
    except urllib.error.HTTPError as exc:
        body = exc.read()
    except (OSError, HTTPException):
        return None
    ready = _parse_object(body)
    return ready if "ready" in ready else None


def _check_port(settings: Settings, address: str) -> Finding:
    try:
        probe_address(settings)
    except OSError as exc:
        problem, to_do = describe_bind_error(settings, exc)
        return Finding("failure", "port", f"no classifyd answers at {address}: {problem}", to_do)
    to_do = "start the server: systemctl start classifyd, or classifyd serve"
    return Finding("warning", "port", f"nothing listens at {address}", to_do)


def check_log(settings: Settings) -> Findings:
    """Report the last errors in the log."""
    lines = log_lines(settings)
    if lines is None:
        text = "not in the systemd journal; check where the server writes its output"
        yield Finding("ok", "log", text)
        return
    errors = [entry for entry in map(_parse_object, lines) if entry.get("level") == "error"]
    for entry in errors[-MAX_SHOWN_ERRORS:]:
        detail = entry.get("detail", "")
        text = f"{entry.get('time', '')} {entry.get('message', '')} {detail}".rstrip()
        yield Finding("warning", "log", text, str(entry.get("advice", "")))
    if not errors:
        yield Finding("ok", "log", f"no error in the last {pluralise(len(lines), 'line')}")


def log_lines(settings: Settings) -> list[str] | None:
    """The last lines of the log file or of the journal; None if there is neither."""
    path = settings.log_path()
    if settings.log_file is None and not path.exists():
        return _journal_lines()
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - MAX_LOG_BYTES))
            return stream.read().decode("utf-8", "replace").splitlines()[-MAX_LOG_LINES:]
    except OSError:
        return None


def _journal_lines() -> list[str] | None:
    tool = shutil.which("journalctl")
    if tool is None:
        return None
    command = [tool, "--unit=classifyd", "--output=cat", "--no-pager", f"--lines={MAX_LOG_LINES}"]
    try:
        ended = subprocess.run(  # noqa: S603 - systemd's own tool, no foreign arguments
            command, capture_output=True, timeout=LOG_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.decode("utf-8", "replace").splitlines()


def _parse_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def check_proxy(settings: Settings, folder: Path = NGINX_FOLDER) -> Findings:
    """Check that an nginx in front of the server accepts bodies of the largest images."""
    for path, text in find_sites(settings, folder).items():
        # A site without a limit inherits that of the main file.
        limits = _body_limits(text) or _body_limits(_read_text(folder / "nginx.conf"))
        limit = min(limits, default=None, key=lambda found: _to_mb(*found))
        if limit and _to_mb(*limit) >= MIN_PROXY_BODY_MB:
            yield Finding("ok", "proxy", f"{path}: client_max_body_size {limit[0]}{limit[1]}")
        else:
            found = f"{limit[0]}{limit[1]}" if limit else "not set, the default is 1m"
            text = f"{path}: client_max_body_size is {found}"
            to_do = f"set client_max_body_size {MIN_PROXY_BODY_MB}m; see deploy/nginx.conf"
            yield Finding("warning", "proxy", text, to_do)


def find_sites(settings: Settings, folder: Path) -> dict[Path, str]:
    """Find the texts of nginx's enabled sites in front of the server, by path."""
    pattern = re.compile(rf"^\s*(proxy_pass|server)\s+[^#;]*:{settings.port}\b", re.MULTILINE)
    paths = (path for path in sorted(folder.rglob("*")) if path.parent.name != DISABLED_SITES)
    texts = {path: _read_text(path) for path in paths}
    return {path: text for path, text in texts.items() if pattern.search(text)}


def _body_limits(text: str) -> list[tuple[int, str]]:
    found = re.findall(r"^\s*client_max_body_size\s+(\d+)([kmg]?)\s*;", text, re.M | re.I)
    return [(int(number), unit) for number, unit in found]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        return ""


def _to_mb(number: int, unit: str) -> float:
    if number == 0:
        return float("inf")  # nginx: 0 is no limit
    return number * {"": 2**-20, "k": 2**-10, "m": 1, "g": 2**10}[unit.lower()]
