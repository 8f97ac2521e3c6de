"""What operating systems and tools leave in folders is passed over, and named once."""

import logging
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.evaluation.dataset import read_dataset
from app.licence.facts import read_facts
from app.licence.folder import LicenceFolder
from app.packages.build.labels import read_label_source
from app.packages.signing import read_trusted_keys
from app.packages.store import desired_versions, foreign_entries
from tests.support.images import PHOTOS
from tests.support.keys import write_key
from tests.support.licences import build_sealed_package, customer_fingerprint, write_licence

FOREIGN_FOLDERS = ("lost+found", "@eaDir", "__MACOSX", ".ipynb_checkpoints")


@pytest.mark.parametrize("name", FOREIGN_FOLDERS)
def test_foreign_folders_are_neither_packages_nor_versions(tmp_path: Path, name: str) -> None:
    (tmp_path / "pets" / "1").mkdir(parents=True)
    (tmp_path / name / "1").mkdir(parents=True)
    (tmp_path / "pets" / name).mkdir()
    (tmp_path / "._pets").touch()
    (version,) = desired_versions(tmp_path).values()
    assert version.folder == tmp_path / "pets" / "1"
    assert foreign_entries(tmp_path) == sorted(["._pets", name]) + [f"pets/{name}"]


def test_an_entry_that_is_only_similar_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "lost-found" / "1").mkdir(parents=True)
    assert desired_versions(tmp_path)["lost-found"].folder
    assert foreign_entries(tmp_path) == []


@pytest.mark.parametrize("name", FOREIGN_FOLDERS)
def test_a_dataset_leaves_out_foreign_files(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for place in ("cup", f"{name}/cup", f"cup/{name}"):
        (tmp_path / place).mkdir(parents=True)
        shutil.copy(PHOTOS / "coffee.jpg", tmp_path / place / "coffee.jpg")
    (tmp_path / "cup" / "._coffee.jpg").write_bytes(b"\0\5\x16\7AppleDouble")
    with caplog.at_level(logging.WARNING):
        samples = read_dataset(tmp_path, ["cup"], "single_label")
    assert [sample.path for sample in samples] == [tmp_path / "cup" / "coffee.jpg"]
    assert samples[0].labels == ("cup",)
    assert caplog.messages == [f"in {tmp_path}, passed over: " + ", ".join(["._coffee.jpg", name])]
    assert read_label_source(tmp_path) == ["cup"]


def test_a_dataset_without_foreign_files_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cup" / "deeper").mkdir(parents=True)
    shutil.copy(PHOTOS / "coffee.jpg", tmp_path / "cup" / "deeper" / "a.JPG")
    with caplog.at_level(logging.WARNING):
        samples = read_dataset(tmp_path, ["cup"], "single_label")
    assert [sample.labels for sample in samples] == [("cup",)]
    assert caplog.messages == []


def test_apple_double_files_are_neither_keys_nor_licences(tmp_path: Path) -> None:
    trusted = tmp_path / "trusted"
    write_key(tmp_path / "publisher.key", trusted)
    (trusted / "._publisher.pem").write_bytes(b"\0\5\x16\7")
    keys = read_trusted_keys(trusted, tmp_path)
    assert keys is not None
    assert len(keys.keys) == 1

    publisher = Ed25519PrivateKey.generate()
    spec = build_sealed_package(tmp_path / "w", "pets", publisher).manifest.licence
    assert spec is not None
    state, licences = tmp_path / "state", tmp_path / "licences"
    customer_fingerprint(state)
    licences.mkdir()
    (licences / "._pets.licence").write_bytes(b"\0\5\x16\7")
    folder = LicenceFolder(licences, state, "cpu", ())
    assert "no licence" in folder.best("pets", spec, read_facts()).verdict.detail
    write_licence(licences / "pets.licence", publisher, customer_fingerprint(state), "pets")
    assert folder.best("pets", spec, read_facts()).verdict.serves
