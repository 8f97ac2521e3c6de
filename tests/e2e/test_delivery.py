"""A package from build to service: signed, archived, installed elsewhere, activated."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.packages.changes import activate
from app.packages.store import active_version
from tests.support.commands import run_classifyd
from tests.support.images import PHOTOS
from tests.support.keys import write_key
from tests.support.models import SIDE, classifyd, script, sharp, write_labels
from tests.support.server import Answer, Server

IMAGENET = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
TOLERANCE = 0.005


@dataclass(frozen=True)
class Workshop:
    """Where packages are built and signed.

    Attributes:
        weights: its own weights folder.
        key: the private key that it signs with.
        trusted: the folder with the public half.
    """

    weights: Path
    key: Path
    trusted: Path

    def archive(self, version: str) -> Path:
        """Write a version as a signed archive."""
        path = self.weights.parent / f"pets-{version}.tar"
        written = classifyd(
            "package", "archive", "pets", version, "-o", path, "--sign", self.key,
            "--weights-dir", self.weights,
        )  # fmt: skip
        assert written.exit_code == 0, written.exception
        return path


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """Three versions of one model; the mean of the third was changed after the build."""
    folder = tmp_path / "workshop"
    folder.mkdir()
    model = script(sharp(), folder / "model.pt")
    for version in ("1", "2", "3"):
        labels = write_labels(folder / "labels.txt", [f"{name}{version}" for name in "abcde"])
        built = classifyd(
            "package", "build", "pets", version, "--torchscript", model, "--labels", labels,
            "--resize-shortest", 80, "--crop", SIDE, *IMAGENET, "--weights-dir", folder / "weights",
        )  # fmt: skip
        assert built.exit_code == 0, built.exception
    change_mean(folder / "weights/pets/3/manifest.json")
    trusted = folder / "trusted"
    return Workshop(folder / "weights", write_key(folder / "us", trusted), trusted)


@dataclass(frozen=True)
class Site:
    """Where packages are served.

    Attributes:
        weights: its weights folder.
        trusted: the keys that it trusts.
        server: the server that runs on it.
    """

    weights: Path
    trusted: Path
    server: Server

    def install(self, archive: Path) -> dict[str, Any]:
        """Install a signed archive and return the command's output."""
        ended = run_classifyd(
            "package", "install", archive, "--json",
            "--weights-dir", self.weights, "--trusted-keys", self.trusted,
        )  # fmt: skip
        installed: dict[str, Any] = json.loads(ended.stdout)
        return installed

    def activate(self, version: str, status: int = 0) -> str:
        """Activate a version, wait, and return the command's output and errors."""
        ended = run_classifyd(
            "package", "activate", "pets", version, "--wait", "--weights-dir", self.weights,
            "--state-dir", self.server.log_path.parent, status=status,
        )  # fmt: skip
        return ended.stdout + ended.stderr

    def serving(self) -> dict[str, Any]:
        """What /readyz says about the deploy name."""
        ready = self.server.request("GET", "/readyz")
        assert ready.status == 200
        entry: dict[str, Any] = ready.json["serving"]["pets"]
        return entry

    def classify(self) -> Answer:
        """Classify a photo."""
        image = base64.b64encode((PHOTOS / "coffee.jpg").read_bytes()).decode()
        return self.server.classify("pets", {"image": image})


@pytest.fixture
def site(workshop: Workshop, tmp_path: Path) -> Iterator[Site]:
    """A server with version 1, installed from its archive."""
    weights, state = tmp_path / "site", tmp_path / "state"
    state.mkdir()
    installed = classifyd(
        "package", "install", workshop.archive("1"), "--weights-dir", weights,
        "--trusted-keys", workshop.trusted,
    )  # fmt: skip
    assert installed.exit_code == 0, installed.exception
    with Server(weights, state) as server:
        yield Site(weights, workshop.trusted, server)


def change_mean(path: Path) -> None:
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["preprocess"][-1]["mean"] = [0.5, 0.5, 0.5]
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_a_signed_version_is_served_with_its_worst_difference(
    workshop: Workshop, site: Site
) -> None:
    assert site.serving()["version"] == "1"
    installed = site.install(workshop.archive("2"))
    assert installed["signature_checked"] is True
    assert installed["active"] is False
    assert "pets/2 is active and served by 1 worker" in site.activate("2")
    entry = site.serving()
    assert entry["version"] == "2"
    assert 0 < entry["worst_difference"] <= TOLERANCE
    assert {result["name"] for result in site.classify().json["results"]} == {
        f"{name}2" for name in "abcde"
    }


def test_a_version_that_fails_its_golden_samples_is_installed_and_never_served(
    workshop: Workshop, site: Site
) -> None:
    # Its hashes and its signature are right: only its golden samples show that it is wrong.
    assert site.install(workshop.archive("3"))["signature_checked"] is True
    message = site.activate("3", status=3)
    assert "likely cause: the mean and std: the scores fit ImageNet's mean and std" in message
    assert "the activation is reverted: 1 is active" in message
    assert active_version(site.weights / "pets").name == "1"
    assert site.serving()["version"] == "1"
    assert site.classify().headers["X-Model-Version"] == "1"

    activate(site.weights, "pets", "3")
    site.server.stop()
    site.server.start()
    site.server.wait_until_ready()
    assert site.serving()["version"] == "1"
    pending = site.server.request("GET", "/readyz").json["pending"]["pets"]
    assert pending["version"] == "3"
    assert "likely cause: the mean and std" in pending["reason"]
