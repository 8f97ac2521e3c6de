"""Wheels of metadata alone, from which a bundle is made within seconds."""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from app.settings import PROJECT_ROOT
from tests.support.lowest import read_requirements


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
    size: int = 3 * 2**20,
) -> None:
    """Write a wheel with metadata, a licence and a file of some bytes."""
    stem = f"{name.replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    lines += ["License-Expression: MIT", "License-File: LICENSE"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    wheel_file = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    data = f"{stem}.data.bin"
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{stem}.dist-info/WHEEL", wheel_file)
        wheel.writestr(f"{stem}.dist-info/licenses/LICENSE", f"the licence of {name}\n")
        wheel.writestr(data, bytes(size))
        wheel.writestr(f"{stem}.dist-info/RECORD", f"{data},,{size}\n")


def pinned_versions() -> dict[str, str]:
    """Read the versions of ``constraints.txt`` by name."""
    pins = (PROJECT_ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.lower().replace("_", "-").split("==") for line in pins if "==" in line)


def write_required_wheels(folder: Path, size: int = 3 * 2**20) -> None:
    """Write a wheel for each requirement of the server, but torch."""
    names = {requirement.name.lower() for requirement in read_requirements([])} | {"setuptools"}
    for name in names - {"torch"}:
        write_wheel(folder, name, pinned_versions()[name], size=size)


def renew_sums(bundle: Path) -> None:
    """Write the checksums of an unpacked bundle again."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(bundle)}\n"
        for path in files
        if not path.name.startswith("SHA256SUMS")
    ]
    (bundle / "SHA256SUMS").write_text("".join(lines))
