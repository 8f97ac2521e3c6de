"""What the master process does around a start: checks before, a greeting after."""

import socket
from collections.abc import Iterable
from dataclasses import replace
from itertools import count

from app.errors import PackageError, SettingsError
from app.log_ids import advance_block
from app.packages.store import active_versions
from app.settings import PROJECT_ROOT, Settings

SAMPLE_PHOTO = PROJECT_ROOT / "tests/photos/coffee.jpg"


def check_start(settings: Settings) -> None:
    """Find what would keep every worker from working, before one is started.

    Raises:
        SettingsError: the state folder cannot be written.
        PackageError: the weights folder holds no package.
    """
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        advance_block(settings.state_dir)
    except OSError as exc:
        raise SettingsError(
            f"setting state_dir = {str(settings.state_dir)!r} cannot be written: "
            f"{exc.strerror}; create the folder or name another one"
        ) from exc
    listing = active_versions(settings.weights_dir)
    if not listing.active and not listing.broken:
        raise PackageError(
            str(settings.weights_dir), "", "no model package is here; make demo builds one"
        )


def require_free_port(settings: Settings) -> None:
    """Find out whether the address can be listened on; gunicorn would try for five seconds.

    Raises:
        SettingsError: somebody else listens there, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.bind, settings.port))
        except OSError as exc:
            raise SettingsError(
                f"settings bind = {settings.bind!r} and port = {settings.port} cannot be "
                f"listened on: {exc.strerror}; stop who listens there, or choose another port "
                f"with --port or CLASSIFYD_PORT"
            ) from exc


def listen_address(settings: Settings) -> str:
    """Write address and port as gunicorn and a URL take them."""
    host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    return f"{host}:{settings.port}"


def free_slot(taken: Iterable[int]) -> int:
    """Return the lowest number from 0 that is not taken."""
    used = set(taken)
    return next(slot for slot in count() if slot not in used)


def describe_start(settings: Settings) -> str:
    """Write where the server can be called, with a curl line for the first deploy name."""
    # Whoever listens everywhere can be called here.
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bind, settings.bind)  # noqa: S104 - compared, not bound
    base = f"http://{listen_address(replace(settings, bind=local))}"
    names = sorted(active_versions(settings.weights_dir).active)
    urls = [f"{base}/{name}/ImageClassification" for name in names]
    lines = ["", "classifyd is ready:", *(f"  {url}" for url in urls), ""]
    if urls and SAMPLE_PHOTO.exists():
        lines += ["Try it:", f"  {curl_line(urls[0])}", ""]
    return "\n".join(lines) + "\n"


def curl_line(url: str) -> str:
    """Write a command that classifies the sample photo, to be pasted into a shell."""
    body = f"""printf '{{"image":"%s"}}' "$(base64 -w0 '{SAMPLE_PHOTO}')\""""
    return f"{body} | curl -s --data-binary @- '{url}'"
