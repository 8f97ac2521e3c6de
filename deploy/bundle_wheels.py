"""Collects the wheels of a bundle for several versions of Python; run by ``bundle.sh``.

Writes the wheels into ``BUNDLE/wheels`` and the file ``BUNDLE/PYTHONS``, from which
``install.sh`` chooses: a line for each Python with the lowest glibc, the lowest glibc with the
extras (``-`` if a wheel is missing), and the size of the installation in MB.
"""

import argparse
import configparser
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

SETUPTOOLS = "setuptools>=77"
"""Builds the editable installation on the server."""

VENV_MB = 60
"""An empty virtual environment with pip, and the program itself."""

COMPILED = 1.15
"""Size after the installation, with the compiled ``.pyc`` files, relative to the wheels' files."""

PREFERRED_GLIBC = 28
"""Of glibc 2.x: Debian 10, Ubuntu 20.04, RHEL 8. Wheels for a later one are the second choice."""

ALIASES = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
"""The glibc of the old platform tags: PEP 513, 571 and 599."""


class LeftOut(Exception):
    """Why the bundle has no wheels for one Python."""


@dataclass(frozen=True)
class Pip:
    """How pip resolves for one Python, such as 3.13."""

    python: str
    constraints: Path
    arguments: list[str]

    def run(self, *command: str) -> str:
        """Run a command of pip for wheels only, and return its output."""
        ended = subprocess.run(  # noqa: S603 - run by make bundle
            [
                sys.executable, "-m", "pip", *command, "--quiet", "--disable-pip-version-check",
                "--only-binary", ":all:", "--python-version", self.python, *_platforms(),
                "--constraint", str(self.constraints), *self.arguments,
            ],
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if ended.returncode:
            # The later ones repeat the first, and link to explanations.
            error = re.search(r"^ERROR: (.*)", ended.stderr, re.MULTILINE)
            raise LeftOut(error[1] if error else ended.stderr.strip())
        return ended.stdout

    def resolve(self, requirements: list[str]) -> dict[str, dict[str, Any]]:
        """Find the metadata of every needed wheel by name, without downloading what is large."""
        with tempfile.TemporaryDirectory() as nowhere:
            report = self.run(
                "install", "--dry-run", "--ignore-installed", "--report", "-",
                "--target", nowhere, *requirements,
            )  # fmt: skip
        items = [item["metadata"] for item in json.loads(report)["install"]]
        return {canonicalize_name(item["name"]): item for item in items}


def _platforms() -> list[str]:
    """List the platforms of this machine, best first; pip alone takes the latest glibc first."""
    latest = int(platform.libc_ver()[1].split(".")[1])
    minors = [*range(PREFERRED_GLIBC, 4, -1), *range(PREFERRED_GLIBC + 1, latest + 1)]
    tags = [f"manylinux_2_{minor}" for minor in minors] + [*ALIASES, "linux"]
    return [f"--platform={tag}_{platform.machine()}" for tag in tags]


def read_requirements(root: Path, extras: Iterable[str]) -> list[str]:
    """List the requirements of ``setup.cfg`` with those of some extras."""
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    texts = [config["options"]["install_requires"]]
    texts += [config["options.extras_require"][extra] for extra in extras]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")] + [SETUPTOOLS]


def requirements_of(
    requirements: Iterable[str], found: dict[str, dict[str, Any]], python: str
) -> Iterator[Requirement]:
    """Walk through all requirements, direct and indirect, that hold for a Python.

    pip evaluates the conditions of requirements for the Python that runs it, not for the one
    that ``--python-version`` names.
    """
    environment = {str(name): str(value) for name, value in default_environment().items()}
    environment |= {"python_version": python, "python_full_version": f"{python}.0"}
    queue, seen = [(Requirement(text), "") for text in requirements], set()
    while queue:
        requirement, extra = queue.pop()
        key = (str(requirement), extra)
        holds = requirement.marker is None or requirement.marker.evaluate(
            environment | {"extra": extra}
        )
        if key in seen or not holds:
            continue
        seen.add(key)
        yield requirement
        wheel = found.get(canonicalize_name(requirement.name), {})
        for text in wheel.get("requires_dist", []):
            queue += [(Requirement(text), each) for each in ("", *requirement.extras)]


def names(requirements: Iterable[Requirement]) -> set[str]:
    """Return the names of requirements."""
    return {canonicalize_name(requirement.name) for requirement in requirements}


def resolve(pip: Pip, requirements: list[str]) -> dict[str, dict[str, Any]]:
    """Find the wheels that a Python needs, and no others."""
    asked = list(requirements)
    while True:
        found = pip.resolve(asked)
        needed = list(requirements_of(requirements, found, pip.python))
        missing = [each for each in needed if canonicalize_name(each.name) not in found]
        if not missing:
            return {name: found[name] for name in names(needed)}
        for requirement in missing:
            requirement.marker = None
            asked.append(str(requirement))


def check_flavour(found: dict[str, dict[str, Any]], flavour: str) -> None:
    """Refuse the CUDA build of torch in a bundle for CPUs, and the other way round."""
    version = found["torch"]["version"]
    cuda = "+cu" in version or any(name.startswith(("nvidia-", "cuda-")) for name in found)
    if flavour == "cpu" and cuda:
        raise LeftOut(f"this index gives the CUDA build of torch {version}")
    if flavour != "cpu" and not cuda:
        raise LeftOut(f"FLAVOUR={flavour}, but torch is not a CUDA build")


def lowest_glibc(wheels: Iterable[Path]) -> str:
    """Return the glibc that all wheels run on, such as 2.28, by their platform tags."""
    lowest = (2, 17)
    for wheel in wheels:
        tags = [tag.platform for tag in parse_wheel_filename(wheel.name)[3]]
        lowest = max(lowest, min(_glibc_of(tag) for tag in tags))
    return ".".join(map(str, lowest))


def _glibc_of(tag: str) -> tuple[int, int]:
    if tag == "any":
        return (0, 0)
    if match := re.match(r"manylinux_(\d+)_(\d+)_", tag):
        return (int(match[1]), int(match[2]))
    if alias := ALIASES.get(tag.split("_")[0]):
        return alias
    # Built on this machine, against its glibc.
    major, minor = platform.libc_ver()[1].split(".")[:2]
    return (int(major), int(minor))


def collect(pip: Pip, root: Path, flavour: str, extras: list[str], wheels: Path) -> str:
    """Download the wheels for one Python and return its line of ``PYTHONS``."""
    try:
        found = resolve(pip, read_requirements(root, extras))
    except LeftOut as failure:
        if not extras:
            raise
        found, extras, missing = resolve(pip, read_requirements(root, [])), [], " ".join(extras)
        print(f"  Python {pip.python}: installs without {missing}: {failure}")
    check_flavour(found, flavour)
    pins = [f"{name}=={found[name]['version']}" for name in sorted(found)]
    with tempfile.TemporaryDirectory() as folder:
        pip.run("download", "--no-deps", "--dest", folder, *pins)
        by_name = {parse_wheel_filename(path.name)[0]: path for path in Path(folder).iterdir()}
        for path in by_name.values():
            shutil.copyfile(path, wheels / path.name)
        size = sum(map(_unpacked_bytes, by_name.values()))
    base = names(requirements_of(read_requirements(root, []), found, pip.python))
    glibc = lowest_glibc(path for name, path in by_name.items() if name in base)
    with_extras = lowest_glibc(by_name.values()) if extras else "-"
    return f"{pip.python} {glibc} {with_extras} {int(size * COMPILED) // 2**20 + VENV_MB}"


def _unpacked_bytes(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def main() -> None:
    """Run the command; see ``--help``."""
    parser = argparse.ArgumentParser(description="Collect the wheels of a bundle.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pythons", required=True, help='such as "3.11 3.12"')
    parser.add_argument("--flavour", required=True)
    parser.add_argument("--extras", default="")
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    wheels = arguments.bundle / "wheels"
    wheels.mkdir(parents=True)
    lines = []
    for python in arguments.pythons.split():
        pip = Pip(python, root / "constraints.txt", shlex.split(os.environ.get("PIP_ARGS", "")))
        try:
            lines.append(collect(pip, root, arguments.flavour, arguments.extras.split(), wheels))
            print(f"  Python {python}: glibc {lines[-1].split()[1]} or later")
        except LeftOut as failure:
            print(f"  Python {python} is left out: {failure}", file=sys.stderr)
    if not lines:
        sys.exit(
            "bundle.sh: no wheels for any Python: name an index with them (make bundle "
            "PIP_ARGS='--extra-index-url URL'), or WHEELS=FOLDER; servers with a GPU take "
            "FLAVOUR=cuda"
        )
    (arguments.bundle / "PYTHONS").write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
