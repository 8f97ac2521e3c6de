"""What ``classifyd doctor`` looks at: each check yields findings, and none of them raises."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from app.cli.surroundings import (
    Finding,
    Findings,
    check_clock,
    check_disk,
    check_gpu,
    check_log,
    check_proxy,
)
from app.errors import PackageError
from app.licence.facts import read_facts
from app.licence.folder import LicenceFolder
from app.licence.standing import active_manifests, device_of
from app.packages.package import load_package
from app.packages.store import active_versions
from app.settings import Settings
from app.start import listen_address, probe_address

SERVER_TIMEOUT_S = 10


def diagnose(settings: Settings) -> Findings:
    """Look at everything in turn; the order is the one to mend things in."""
    for check in CHECKS:
        yield from check(settings)


def check_server(settings: Settings) -> Findings:
    """Ask the server on this machine how it is, and with what it answers."""
    address = listen_address(settings)
    ready = ask_server(settings)
    if ready is None:
        yield from _check_silent_port(settings, address)
        return
    to_do = "see the packages below, and the log"
    if ready["ready"]:
        yield Finding("ok", "port", f"the server at {address} is ready")
    else:
        yield Finding("failure", "port", f"the server at {address} is not ready", to_do)
    for name, model in ready.get("serving", {}).items():
        text = f"{name}/{model['version']} by {model['engine']} on {model['device']}"
        yield Finding("ok", "engine", text)


def ask_server(settings: Settings) -> dict[str, Any] | None:
    """Fetch ``/readyz``; None when no classifyd answers."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bind, settings.bind)  # noqa: S104 - compared, not bound
    host = f"[{local}]" if ":" in local else local
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"http://{host}:{settings.port}/readyz"
    try:
        with opener.open(url, timeout=SERVER_TIMEOUT_S) as response:
            body = response.read()
    except urllib.error.HTTPError as exc:
        body = exc.read()
    except OSError:
        return None
    try:
        ready = json.loads(body)
    except ValueError:
        return None
    return ready if isinstance(ready, dict) and "ready" in ready else None


def _check_silent_port(settings: Settings, address: str) -> Findings:
    try:
        probe_address(settings)
    except OSError as exc:
        to_do = "see who it is with ss -ltnp, and the service with systemctl status classifyd"
        text = f"no classifyd answers at {address}: {exc.strerror}"
        yield Finding("failure", "port", text, to_do)
        return
    to_do = "start the server: systemctl start classifyd, or classifyd serve"
    yield Finding("warning", "port", f"nobody listens at {address}", to_do)


def check_permissions(settings: Settings) -> Findings:
    """See whether this account can use the folders; the service's account is the one to ask."""
    state_dir = settings.state_dir
    while not state_dir.exists():
        state_dir = state_dir.parent  # the server makes it on its first start
    wanted = (
        ("weights_dir", settings.weights_dir, os.R_OK | os.X_OK, "read"),
        ("state_dir", state_dir, os.R_OK | os.W_OK | os.X_OK, "written"),
    )
    for name, folder, mode, verb in wanted:
        if os.access(folder, mode):
            yield Finding("ok", "permissions", f"{name} {folder} can be {verb}")
        else:
            to_do = "create it, give it to the service's account, or set another folder"
            yield Finding(
                "failure", "permissions", f"{name} {folder} cannot be {verb} by this account", to_do
            )


def check_packages(settings: Settings) -> Findings:
    """Check the files of every active package against their checksums."""
    try:
        listing = active_versions(settings.weights_dir)
    except PackageError as exc:
        yield Finding("failure", "packages", str(exc), "set weights_dir, or create the folder")
        return
    problems = [str(error) for error in listing.broken.values()]
    for folder in listing.active.values():
        try:
            package = load_package(folder)
        except PackageError as exc:
            problems.append(str(exc))
        else:
            kind = ", sealed" if package.sealed else ""
            text = f"{folder.parent.name}/{folder.name}: checksums right{kind}"
            yield Finding("ok", "packages", text)
    for problem in problems:
        yield Finding("failure", "packages", problem, "install the package again")
    if not listing.active and not problems:
        yield Finding("failure", "packages", f"none in {settings.weights_dir}", "install one")


def check_licences(settings: Settings) -> Findings:
    """Hold the licences against this machine."""
    facts = read_facts()
    device, cards = device_of(settings, facts)
    folder = LicenceFolder(settings.licence_dir, settings.state_dir, device, cards)
    for manifest in active_manifests(settings.weights_dir):
        if manifest.licence is None:
            continue
        verdict = folder.best(manifest.name, manifest.licence, facts).verdict
        left = "no end" if verdict.days_left is None else f"{verdict.days_left} days left"
        if not verdict.serves:
            yield Finding(
                "failure", "licence", f"{manifest.name}: {verdict.detail}", verdict.advice
            )
        elif verdict.is_warning:
            to_do = verdict.advice or f"ask {manifest.licence.publisher} to renew it"
            yield Finding("warning", "licence", f"{manifest.name}: {left}", to_do)
        else:
            yield Finding("ok", "licence", f"{manifest.name}: valid, {left}")


CHECKS: tuple[Callable[[Settings], Findings], ...] = (
    check_server,
    check_permissions,
    check_disk,
    check_clock,
    check_packages,
    check_licences,
    check_gpu,
    check_log,
    check_proxy,
)
