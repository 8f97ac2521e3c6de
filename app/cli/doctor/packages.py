"""Packages, their golden samples and licences, for ``classifyd doctor``."""

from collections.abc import Mapping
from typing import Any

from app.cli.doctor.finding import Finding, Findings
from app.cli.doctor.server import fetch_readiness
from app.cli.licences import judge_licences, unlock
from app.cli.package.verify import verify_package
from app.errors import LockedPackage, PackageError
from app.packages.package import Package, load_package
from app.packages.store import desired_versions
from app.reporting.counts import pluralise
from app.server.preflight import HOW_TO_GET_ONE
from app.settings import Settings

HOW_TO_BUILD = "ask its builder for a package with golden samples, see docs/package.md"


def check_packages(settings: Settings) -> Findings:
    """Check the files and golden samples of every active package."""
    try:
        versions = desired_versions(settings.weights_dir).values()
    except PackageError as exc:
        yield Finding(
            "failure", "packages", str(exc), f"set weights_dir, or fill it: {HOW_TO_GET_ONE}"
        )
        return
    problems = [str(version.problem) for version in versions if version.problem]
    serving = (fetch_readiness(settings) or {}).get("serving", {})
    for folder in filter(None, (version.folder for version in versions)):
        try:
            package = load_package(folder)
        except PackageError as exc:
            problems.append(str(exc))
        else:
            kind = ", sealed" if package.sealed else ""
            text = f"{folder.parent.name}/{folder.name}: checksums match{kind}"
            yield Finding("ok", "packages", text)
            yield check_golden_samples(package, serving.get(package.manifest.name), settings)
    for problem in problems:
        yield Finding("failure", "packages", problem, "install the package again")
    if not versions:
        yield Finding("failure", "packages", f"none in {settings.weights_dir}", HOW_TO_GET_ONE)


def check_golden_samples(
    package: Package, served: Mapping[str, Any] | None, settings: Settings
) -> Finding:
    """Check that a package gives the scores of its golden samples.

    A running server did this when it loaded the package, with the engine that serves, so its
    figure, the deploy name's entry of ``/readyz``, is reported. Otherwise TorchScript computes
    the samples in this process.
    """
    subject = f"{package.manifest.name}/{package.manifest.version}"
    golden = package.golden
    if golden is None:
        text = f"{subject}: no golden samples, nothing proves that its scores are right"
        return Finding("warning", "golden", text, HOW_TO_BUILD)
    if served and served["version"] == package.manifest.version:
        worst, where = served["worst_difference"], f"{served['engine']} in the running server"
    else:
        try:
            worst = verify_package(unlock(package, settings))["worst_difference"]
        except LockedPackage:
            text = f"{subject}: not checked, no licence opens the package"
            return Finding("warning", "golden", text, "see its licence below")
        except PackageError as exc:
            to_do = "install the package again, or another one"
            return Finding("failure", "golden", str(exc), to_do)
        where = "torchscript here"
    text = (
        f"{subject}: {pluralise(len(golden.images), 'golden sample')} right, largest score "
        f"difference {worst:.2g} (tolerance {golden.tolerance:g}), by {where}"
    )
    return Finding("ok", "golden", text)


def check_licences(settings: Settings) -> Findings:
    """Check the licences of the active packages for this machine."""
    try:
        decisions = judge_licences(settings)
    except PackageError:
        return  # reported by check_packages
    for manifest, decision in decisions:
        verdict = decision.verdict
        left = "no expiry"
        if verdict.days_left is not None:
            left = f"{pluralise(verdict.days_left, 'day')} left"
        if not verdict.serves:
            text = f"{manifest.name}: {verdict.detail}"
            yield Finding("failure", "licence", text, verdict.advice)
        elif verdict.is_warning:
            publisher = manifest.licence.publisher if manifest.licence else "the publisher"
            to_do = verdict.advice or f"ask {publisher} to renew it"
            yield Finding("warning", "licence", f"{manifest.name}: {left}", to_do)
        else:
            yield Finding("ok", "licence", f"{manifest.name}: valid, {left}")
