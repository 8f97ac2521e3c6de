"""Whether a package gives its known answers on this machine, for ``classifyd doctor``."""

from collections.abc import Mapping
from typing import Any

from app.cli.doctor.machine import Finding
from app.cli.licences import unlock
from app.cli.package.verify import describe_verified
from app.errors import LockedPackage, PackageError
from app.packages.package import Package
from app.settings import Settings

HOW_TO_BUILD = "ask its builder for a package with golden samples, see docs/package.md"


def check_golden(package: Package, served: Mapping[str, Any] | None, settings: Settings) -> Finding:
    """Say how far the package's scores are from the known ones.

    A running server has measured that with the engine that serves, when it loaded the package:
    its figure is taken. Without one the samples are computed here, by TorchScript.

    Args:
        package: an active package.
        served: what ``/readyz`` says of its deploy name; None when no server answers for it.
        settings: those of the server, for the licence of a sealed package.
    """
    subject = f"{package.manifest.name}/{package.manifest.version}"
    if package.golden is None:
        text = f"{subject}: no golden samples, nothing proves that its scores are right"
        return Finding("warning", "golden", text, HOW_TO_BUILD)
    if served and served["version"] == package.manifest.version:
        worst = float(served["worst_difference"])
        text = f"{_summary(subject, package, worst)}, by {served['engine']} in the running server"
        return Finding("ok", "golden", text)
    try:
        result = describe_verified(unlock(package, settings))
    except LockedPackage:
        text = f"{subject}: not checked, as no licence opens the package"
        return Finding("warning", "golden", text, "see its licence below")
    except PackageError as exc:
        return Finding("failure", "golden", str(exc), "install the package again, or another one")
    text = f"{_summary(subject, package, result['worst_difference'])}, by torchscript here"
    return Finding("ok", "golden", text)


def _summary(subject: str, package: Package, worst: float) -> str:
    golden = package.golden
    assert golden is not None  # noqa: S101 - asked before
    return (
        f"{subject}: {len(golden.images)} golden samples right, a score is off by at most "
        f"{worst:.2g} (tolerance {golden.tolerance:g})"
    )
