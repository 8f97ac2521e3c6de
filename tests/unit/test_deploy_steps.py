"""The steps of ``make test-deploy`` and ``make test-container``, which CI does not run."""

import re

from app.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "tests/deploy"


def test_every_step_exists() -> None:
    runner = (FOLDER / "in_container.sh").read_text()
    named = re.search(r"^steps=\((.*?)\)", runner, re.MULTILINE | re.DOTALL)
    assert named
    steps = (FOLDER / "steps.sh").read_text()
    functions = set(re.findall(r"^(\w+)\(\) \{", steps, re.MULTILINE))
    assert set(named[1].split()) - {"reboot"} <= functions
    assert len(functions) == len(re.findall(r"^\w+\(\) \{", steps, re.MULTILINE))


def test_every_step_of_the_container_exists() -> None:
    text = (FOLDER / "container.sh").read_text()
    named = re.search(r"^steps=\((.*?)\)", text, re.MULTILINE | re.DOTALL)
    assert named
    assert set(named[1].split()) <= set(re.findall(r"^(\w+)\(\) \{", text, re.MULTILINE))
