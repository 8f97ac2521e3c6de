"""Servers that the tests of a session share, and the summary of skipped tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT
from tests.support.certificates import make_certificate
from tests.support.packages import build_colour_package
from tests.support.server import Server

DEMO_PACKAGE = PROJECT_ROOT / "weights" / "imagenet"


@pytest.fixture(scope="session")
def colour_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with two small packages, ``colours`` and ``farben``."""
    folder = tmp_path_factory.mktemp("weights")
    build_colour_package(folder, "colours", ["red", "green", "blue"])
    build_colour_package(folder, "farben", ["红色", "绿色", "蓝色"])
    return folder


@pytest.fixture(scope="session")
def server(colour_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with default settings and the two small packages."""
    with Server(colour_weights, tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture(scope="session")
def rest_server(colour_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same with ``http_status = rest`` and ``error_detail = body``."""
    state = tmp_path_factory.mktemp("state")
    with Server(colour_weights, state, http_status="rest", error_detail="body") as running:
        yield running


@pytest.fixture(scope="session")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the demo model's real weights, which ``make test`` has built."""
    with Server(DEMO_PACKAGE.parent, tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    return make_certificate(tmp_path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what the skipped tests need, and how to install it."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in skipped}
    if reasons:
        needed = ", ".join(sorted(reason.removeprefix("needs ") for reason in reasons))
        terminalreporter.write_line(
            f"Skipped tests need: {needed}. To install it: "
            "sudo .ci/install-packages (Debian) and make extras"
        )
