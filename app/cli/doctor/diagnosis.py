"""What ``classifyd doctor`` looks at: each check yields findings, and none of them raises."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Any

from app.cli.doctor.environment import (
    Finding,
    Findings,
    check_clock,
    check_disk,
    check_gpu,
    check_log,
    check_proxy,
)
from app.cli.doctor.golden_samples import check_golden
from app.cli.doctor.reachability import Need, out_of_reach, service_account
from app.errors import PackageError
from app.licence.facts import read_facts
from app.licence.folder import LicenceFolder
from app.licence.standing import active_manifests, device_of
from app.packages.package import load_package
from app.packages.store import desired_versions
from app.server.preflight import listen_address, local_url, probe_address
from app.settings import Settings

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
    if ready["ready"]:
        yield Finding("ok", "port", f"the server at {address} is ready")
    else:
        to_do = "see the names below, and the log"
        yield Finding("failure", "port", f"the server at {address} is not ready", to_do)
    for name, reason in ready.get("reasons", {}).items():
        yield Finding("failure", "engine", f"{name} is not served: {reason}", "mend the package")
    for name, wanted in ready.get("pending", {}).items():
        text = (
            f"{name}/{wanted['version']} is active, an earlier version serves: {wanted['reason']}"
        )
        to_do = f"mend it, or go back: classifyd package rollback {name}"
        yield Finding("warning", "engine", text, to_do)
    for name, model in ready.get("serving", {}).items():
        text = f"{name}/{model['version']} by {model['engine']} on {model['device']}"
        yield Finding("ok", "engine", text)


def ask_server(settings: Settings) -> dict[str, Any] | None:
    """Fetch ``/readyz``; None when no classifyd answers."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        # The certificate names the server as its callers do, not as 127.0.0.1.
        urllib.request.HTTPSHandler(context=_trust_this_machine()),
    )
    url = f"{local_url(settings)}/readyz"
    try:
        with opener.open(url, timeout=SERVER_TIMEOUT_S) as response:
            body = response.read()
    except urllib.error.HTTPError as exc:
        body = exc.read()
    except (OSError, HTTPException):
        return None
    try:
        ready = json.loads(body)
    except ValueError:
        return None
    return ready if isinstance(ready, dict) and "ready" in ready else None


def _trust_this_machine() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


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
    """See whether the service's account, or else this one, can use what the settings name."""
    account = service_account()
    needs = list(_needs(settings))
    for need, fault in zip(needs, out_of_reach(needs, account), strict=True):
        who = f"the account {account}" if account else "this account"
        verb = "write" if need.writes else "read"
        if fault is None:
            text = f"{who} can {verb} {need.setting} {need.path}"
            yield Finding("ok", "permissions", text)
            continue
        owner = account or "the service's account"
        to_do = (
            f"chown -R {owner}: {need.path}"
            if need.writes
            else f"let {owner} read it and the folders above: chmod a+rX, or chgrp and chmod g+rX"
        )
        text = f"{who} cannot {verb} {fault} ({need.setting})"
        yield Finding("failure", "permissions", text, to_do)


def _needs(settings: Settings) -> Iterator[Need]:
    yield Need("weights_dir", settings.weights_dir)
    yield Need("state_dir", settings.state_dir, writes=True)
    yield Need("licence_dir", settings.licence_dir)
    if settings.access_tokens == "on":
        yield Need("tokens_file", settings.tokens_path())
    if settings.tls_certificate and settings.tls_key:
        yield Need("tls_certificate", settings.tls_certificate)
        yield Need("tls_key", settings.tls_key)
    if settings.log_file:
        yield Need("log_file", settings.log_file.parent, writes=True)


def check_packages(settings: Settings) -> Findings:
    """Check the files of every active package, and what is known of its golden samples."""
    try:
        versions = desired_versions(settings.weights_dir).values()
    except PackageError as exc:
        yield Finding("failure", "packages", str(exc), "set weights_dir, or create the folder")
        return
    problems = [str(version.problem) for version in versions if version.problem]
    serving = (ask_server(settings) or {}).get("serving", {})
    for folder in filter(None, (version.folder for version in versions)):
        try:
            package = load_package(folder)
        except PackageError as exc:
            problems.append(str(exc))
        else:
            kind = ", sealed" if package.sealed else ""
            text = f"{folder.parent.name}/{folder.name}: checksums right{kind}"
            yield Finding("ok", "packages", text)
            yield check_golden(package, serving.get(package.manifest.name), settings)
    for problem in problems:
        yield Finding("failure", "packages", problem, "install the package again")
    if not versions:
        yield Finding("failure", "packages", f"none in {settings.weights_dir}", "install one")


def check_licences(settings: Settings) -> Findings:
    """Hold the licences against this machine."""
    facts = read_facts()
    device, cards = device_of(settings, facts)
    folder = LicenceFolder(settings.licence_dir, settings.state_dir, device, cards)
    try:
        manifests = active_manifests(settings.weights_dir)
    except PackageError:
        return  # told with the packages
    for manifest in manifests:
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
