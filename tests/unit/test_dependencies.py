"""The dependencies in setup.cfg and their versions."""

import pytest

from app.settings import PROJECT_ROOT
from tests.support.lowest import lower_bound, read_extras, read_requirements

PINS = (PROJECT_ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")


@pytest.mark.parametrize("extra", read_extras())
def test_every_dependency_has_a_lower_bound_and_a_pin_within_its_bounds(extra: str) -> None:
    pins = dict(line.split("==") for line in PINS if "==" in line)
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    for requirement in read_requirements([extra]):
        assert lower_bound(requirement)
        assert pins[requirement.name.lower()] in requirement.specifier, requirement
