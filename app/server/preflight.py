"""What the master process does around a start: checks before, a greeting after."""

import errno
import logging
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count

from app.access_tokens import read_tokens
from app.errors import PackageError, SettingsError
from app.folders import IS_CHECKOUT, PHOTOS
from app.observability.log_file import RotatedFileHandler
from app.observability.log_ids import advance_block
from app.packages.store import desired_versions, foreign_entries
from app.server.certificate import check_tls
from app.serving.status_file import NameStatus
from app.settings import Settings
from app.system.fips import require_usable_opencv

_log = logging.getLogger(__name__)

COPY_MAX_MIB = 16
"""With five renamed files at most 96 MiB: some 200,000 requests."""

HOW_TO_GET_ONE = (
    "make demo builds one"
    if IS_CHECKOUT
    else "classifyd package demo builds one, classifyd package install takes one from an archive"
)
SAMPLE_PHOTO = PHOTOS / "coffee.jpg"


def check_start(settings: Settings) -> None:
    """Find what would keep every worker from working, before one is started.

    Raises:
        SettingsError: the state folder cannot be written, or the TLS files are wrong.
        PackageError: the weights folder cannot be read or holds no package.
        OperatorError: the tokens file is wrong, or OpenCV cannot be imported.
    """
    require_usable_opencv()
    check_tls(settings)
    if settings.access_tokens == "on":
        read_tokens(settings.tokens_path())
    if not settings.weights_dir.exists():
        raise PackageError(settings.weights_dir, f"this folder does not exist; {HOW_TO_GET_ONE}")
    if not desired_versions(settings.weights_dir):
        raise PackageError(settings.weights_dir, f"no model package is here; {HOW_TO_GET_ONE}")
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        advance_block(settings.state_dir)
    except OSError as exc:
        raise SettingsError(
            f"setting state_dir = {str(settings.state_dir)!r} cannot be written by user ID "
            f"{os.geteuid()}: {exc.strerror}; create the folder, mount a volume there, or name "
            "another one"
        ) from exc
    if foreign := foreign_entries(settings.weights_dir):
        _log.info("in %s, passed over: %s", settings.weights_dir, ", ".join(foreign))


def open_log_file(settings: Settings) -> RotatedFileHandler | None:
    """Open the log file that the settings name, or else a copy of the log for ``classifyd logs``.

    Returns:
        None if the copy cannot be opened, which is no reason not to start, or if the systemd
        journal keeps the log.

    Raises:
        SettingsError: the file that the settings name cannot be opened.
    """
    is_copy = settings.log_file is None
    if is_copy and _is_journal(sys.stderr.fileno()):
        return None
    path, max_mib = settings.log_path(), settings.log_file_max_mib
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        max_mib = max_mib or (COPY_MAX_MIB if is_copy else 0)
        return RotatedFileHandler(path, max_mib, settings.log_file_keep, is_copy=is_copy)
    except OSError as exc:
        if is_copy:
            _log.warning("no copy of the log for classifyd logs: %s: %s", path, exc.strerror)
            return None
        raise SettingsError(
            f"setting log_file = {str(path)!r} cannot be written: {exc.strerror}; "
            "name a file that the server's user may write"
        ) from exc


def _is_journal(descriptor: int) -> bool:
    """Whether a stream is systemd's journal (systemd.exec(5), ``JOURNAL_STREAM``)."""
    status = os.fstat(descriptor)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def require_free_port(settings: Settings) -> None:
    """Find out whether the address can be listened on; gunicorn would try for five seconds.

    Raises:
        SettingsError: somebody else listens there, or the address is not this machine's.
    """
    try:
        probe_address(settings)
    except OSError as exc:
        problem, to_do = describe_bind_error(settings, exc)
        raise SettingsError(f"{problem}; {to_do}") from exc


def describe_bind_error(settings: Settings, exc: OSError) -> tuple[str, str]:
    """Say why the server cannot listen on its address, and what to do."""
    where = f"setting bind = {settings.bind!r}"
    if isinstance(exc, socket.gaierror):
        return f"{where}: this name has no address", "give an address of this machine, or 0.0.0.0"
    if exc.errno == errno.EADDRNOTAVAIL:
        to_do = "give one that ip address lists, or 0.0.0.0 for all"
        return f"{where}: this machine does not have this address", to_do
    where = f"setting port = {settings.port}"
    if exc.errno == errno.EACCES:
        return f"{where}: only root may listen on it", "choose one from 1024"
    to_do = "stop the program that ss -ltnp shows there, or choose another port"
    return f"{where}: {exc.strerror}", to_do


def probe_address(settings: Settings) -> None:
    """Bind the address and port as the server would, and let go again.

    Raises:
        OSError: somebody else listens there, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((settings.bind, settings.port))


def listen_address(settings: Settings) -> str:
    """Write address and port as gunicorn and a URL take them."""
    host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    return f"{host}:{settings.port}"


def local_url(settings: Settings) -> str:
    """Write where the server can be called on this machine, without a path."""
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://{listen_address(replace(settings, bind=local_host(settings)))}"


def local_host(settings: Settings) -> str:
    """The address at which the server can be called on this machine."""
    # Whoever listens everywhere can be called here.
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bind, settings.bind)  # noqa: S104 - compared, not bound


def free_slot(taken: Iterable[int]) -> int:
    """Return the lowest number from 0 that is not taken."""
    used = set(taken)
    return next(slot for slot in count() if slot not in used)


def describe_start(settings: Settings, names: Mapping[str, NameStatus]) -> str:
    """Write what can be called and tried, what is not served, and where the log is.

    Args:
        settings: the settings in force.
        names: the deploy names of a worker that has started.
    """
    base = local_url(settings)
    served = sorted(name for name, status in names.items() if status.version)
    urls = [f"{base}/{name}/ImageClassification" for name in served]
    begin = "classifyd is ready:" if urls else "classifyd has started and serves no model yet."
    lines = ["", begin, *(f"  {url}" for url in urls), ""]
    if missing := sorted(names.keys() - served):
        lines += ["Not served:", *(f"  {name}: {names[name].problem}" for name in missing), ""]
    if urls:
        lines += ["Try it:", f"  {curl_line(urls[0], settings.access_tokens == 'on')}", ""]
    if settings.console == "on":
        lines += ["Or in a browser:", f"  {base}/", ""]
    if settings.log_file is not None:
        lines += ["The log:", f"  {settings.log_file}", ""]
    return "\n".join(lines) + "\n"


def curl_line(url: str, asks_token: bool = False) -> str:
    """Write a command that classifies the sample photo, to be pasted into a shell."""
    body = f"""printf '{{"image":"%s"}}' "$(base64 -w0 '{SAMPLE_PHOTO}')\""""
    # The certificate names the server as its callers do, not as 127.0.0.1.
    insecure = "-k " if url.startswith("https:") else ""
    token = '-H "Authorization: Bearer $TOKEN" ' if asks_token else ""
    return f"{body} | curl -s {insecure}{token}--data-binary @- '{url}'"
