"""The lowest versions that setup.cfg allows, as constraints for pip.

``python -m tests.support.lowest EXTRA ...`` prints them; ``make lowest`` installs them.
"""

import configparser
import sys
from collections.abc import Iterable

from packaging.requirements import Requirement

from app.settings import PROJECT_ROOT


def read_extras() -> dict[str, str]:
    """The requirements of each extra, one a line."""
    return dict(_read_setup()["options.extras_require"])


def read_requirements(extras: Iterable[str]) -> list[Requirement]:
    """The direct dependencies of the project and of these extras."""
    texts = [_read_setup()["options"]["install_requires"]]
    texts += [read_extras()[extra] for extra in extras]
    lines = "\n".join(texts).split("\n")
    return [Requirement(line) for line in lines if line]


def lower_bound(requirement: Requirement) -> str:
    """The version in the requirement's ``>=``.

    Raises:
        ValueError: there is none.
    """
    for part in requirement.specifier:
        if part.operator == ">=":
            return part.version
    raise ValueError(f"{requirement} has no lower bound")


def _read_setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(PROJECT_ROOT / "setup.cfg", encoding="utf-8")
    return setup


if __name__ == "__main__":
    for requirement in read_requirements(sys.argv[1:]):
        print(f"{requirement.name}=={lower_bound(requirement)}")  # noqa: T201 - for pip
