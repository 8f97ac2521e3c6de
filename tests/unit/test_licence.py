"""Licences on recorded machines: which are accepted, and the reasons for refusals."""

import base64
import json
import os
import random
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.errors import AuthFailed, LicenceError, LockedPackage, PackageError, TamperedPackage
from app.licence.clock import CLOCK_FILE, LOCK_FILE, ClockRecord
from app.licence.facts import read_facts
from app.licence.fingerprint import Fingerprint
from app.licence.folder import Decision, LicenceFolder
from app.licence.issue import issue_licence
from app.licence.keys import MACHINE_KEY_FILE, clock_key, content_key, read_machine_key
from app.licence.licence import DeviceClass, to_time
from app.licence.licences import Licences
from app.licence.verdict import Verdict
from app.packages.archive import install_archive, write_archive
from app.packages.manifest import LicenceSpec
from app.packages.package import Package, load_package
from app.packages.sealing import unseal_model
from app.system.files import acquire_lock
from tests.support.licences import build_sealed_package, customer_fingerprint, write_licence
from tests.support.machines import CARD, build_machine, change
from tests.support.waiting import wait_until

DAY_S = 86_400


@pytest.fixture(scope="module")
def publisher() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, publisher: Ed25519PrivateKey) -> Package:
    return build_sealed_package(tmp_path_factory.mktemp("publisher") / "w", "pets", publisher)


class Customer:
    """A recorded machine with its state and licence folders."""

    def __init__(self, folder: Path, spec: LicenceSpec) -> None:
        self.folder = folder
        self.spec = spec
        self.root = build_machine(folder / "root", has_card=True)
        self.state = folder / "state"
        self.path = folder / "licences" / "pets.licence"

    def fingerprint(self) -> Fingerprint:
        return customer_fingerprint(self.state, self.root)

    def check(self, device: DeviceClass = "cpu", card: str = "") -> Verdict:
        folder = LicenceFolder(self.path.parent, self.state, device, (card,) if card else ())
        decision = folder.best("pets", self.spec, read_facts(self.root))
        folder.note(decision)
        return decision.verdict

    def change(self, *facts: str) -> None:
        shutil.rmtree(self.root)
        build_machine(self.root, has_card=True, **change(*facts))

    def clock(self) -> ClockRecord:
        return ClockRecord(self.state, clock_key(read_machine_key(self.state)))


@pytest.fixture
def customer(tmp_path: Path, sealed: Package) -> Customer:
    assert sealed.manifest.licence is not None
    return Customer(tmp_path, sealed.manifest.licence)


def test_a_trial_is_valid_for_30_days(customer: Customer, publisher: Ed25519PrivateKey) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets", days=30)
    verdict = customer.check()
    assert (verdict.state, verdict.days_left) == ("valid", 30)
    assert verdict.is_warning


def test_a_permanent_licence_has_no_end(customer: Customer, publisher: Ed25519PrivateKey) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets")
    verdict = customer.check()
    assert (verdict.state, verdict.days_left, verdict.is_warning) == ("valid", None, False)


def test_a_longer_licence_warns_only_in_its_last_30_days(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets", days=31)
    assert not customer.check().is_warning


@pytest.mark.parametrize("fact", ["machine_id", "board", "cpu", "disk", "network"])
def test_one_changed_fact_is_tolerated(
    customer: Customer, publisher: Ed25519PrivateKey, fact: str
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets")
    customer.change(fact)
    verdict = customer.check()
    assert verdict.state == "valid"
    assert [kind for kind, found in verdict.matches.items() if found != "matched"] == [fact]


def test_two_changed_facts_are_tolerated_for_the_grace_days(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    licence = write_licence(customer.path, publisher, customer.fingerprint(), "pets")
    customer.change("disk", "network")
    verdict = customer.check()
    assert (verdict.state, verdict.days_left) == ("grace", 14)
    assert "fingerprint" in verdict.advice
    assert verdict.is_warning
    begun = int(time.time()) - 14 * DAY_S
    (customer.state / CLOCK_FILE).unlink()
    customer.clock().create()
    customer.clock().remember(licence.serial, begun, True, begun)
    verdict = customer.check()
    assert verdict.state == "refused"
    assert "grace" in verdict.detail


def test_three_changed_facts_are_another_machine(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets")
    customer.change("disk", "network", "board")
    assert "another machine: 2 of 5" in customer.check().detail


def test_a_lost_clock_record_is_tolerated_but_starts_no_second_grace(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    long_ago = int(time.time()) - 100 * DAY_S
    write_licence(
        customer.path,
        publisher,
        customer.fingerprint(),
        "pets",
        issued=long_ago,
        not_before=long_ago,
    )
    (customer.state / CLOCK_FILE).write_bytes(b"\0" * 40)
    assert customer.check().state == "valid"
    (customer.state / CLOCK_FILE).unlink()
    customer.change("disk", "network")
    assert "grace" in customer.check().detail
    assert customer.check().state == "refused"


def test_a_missing_licence_names_the_publisher(customer: Customer) -> None:
    customer.fingerprint()
    verdict = customer.check()
    assert verdict.state == "refused"
    assert "there is no licence" in verdict.detail
    assert "licence@example.com" in verdict.advice


def test_a_missing_machine_key_is_reported(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets")
    (customer.state / MACHINE_KEY_FILE).unlink()
    assert "no machine key" in customer.check().detail


def test_a_licence_that_cannot_be_read_is_named(customer: Customer) -> None:
    customer.fingerprint()
    customer.path.mkdir(parents=True)
    verdict = customer.check()
    assert verdict.state == "refused"
    assert str(customer.path) in verdict.advice


def test_another_publishers_licence_is_refused(customer: Customer) -> None:
    write_licence(customer.path, Ed25519PrivateKey.generate(), customer.fingerprint(), "pets")
    assert "another key" in customer.check().detail


def test_a_state_folder_copied_to_another_machine_opens_nothing(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets")
    customer.change("machine_id", "board", "disk", "network")
    assert "another machine" in customer.check().detail


def test_another_state_folder_on_the_same_machine_opens_nothing(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets")
    shutil.rmtree(customer.state)
    customer.fingerprint()
    assert "another machine key" in customer.check().detail


def test_a_cpu_licence_does_not_cover_a_gpu(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets")
    assert "for a cpu" in customer.check("gpu", CARD).detail


def test_a_gpu_licence_covers_only_that_gpu(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    fingerprint = customer.fingerprint()
    card = next(iter(fingerprint.cards))
    write_licence(customer.path, publisher, fingerprint, "pets", device="gpu", card=card)
    assert customer.check("gpu", CARD).state == "valid"
    assert "another GPU" in customer.check("gpu", CARD.replace("8f2a", "0000")).detail
    assert "for a gpu" in customer.check("cpu").detail


def test_another_deploy_name_is_refused(customer: Customer, publisher: Ed25519PrivateKey) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "cars")
    assert "another deploy name" in customer.check().detail


def test_a_licence_ends_with_its_last_second(
    customer: Customer, publisher: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    licence = write_licence(customer.path, publisher, customer.fingerprint(), "pets", days=1)
    assert licence.expires is not None
    monkeypatch.setattr("app.licence.folder.time.time", lambda: licence.expires - 1)
    assert customer.check().state == "valid"
    monkeypatch.setattr("app.licence.folder.time.time", lambda: licence.expires)
    assert "expired" in customer.check().detail


def test_an_edited_expiry_is_detected(customer: Customer, publisher: Ed25519PrivateKey) -> None:
    licence = write_licence(customer.path, publisher, customer.fingerprint(), "pets", days=1)
    assert licence.expires is not None
    text = customer.path.read_text()
    later = text.replace(to_time(licence.expires), to_time(licence.expires + 3650 * DAY_S))
    assert later != text
    customer.path.write_text(later)
    verdict = customer.check()
    assert (verdict.state, verdict.detail) == (
        "refused",
        "the licence file is unreadable or was changed",
    )
    assert "wrong signature" in verdict.advice


def test_a_licence_saved_by_an_editor_is_refused(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets")
    customer.path.write_bytes(customer.path.read_bytes().replace(b"\n", b"\r\n"))
    verdict = customer.check()
    assert verdict.state == "refused"
    assert "do not open it in an editor" in verdict.advice


def test_a_licence_of_tomorrow_is_not_yet_valid(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    tomorrow = int(time.time()) + DAY_S
    write_licence(customer.path, publisher, customer.fingerprint(), "pets", not_before=tomorrow)
    assert "not yet valid" in customer.check().detail


def test_a_clock_set_back_gains_nothing(
    customer: Customer, publisher: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    licence = write_licence(
        customer.path, publisher, customer.fingerprint(), "pets", days=30, not_before=0
    )
    now = time.time()
    monkeypatch.setattr("app.licence.folder.time.time", lambda: now + 20 * DAY_S)
    assert customer.check().state == "valid"
    monkeypatch.setattr("app.licence.folder.time.time", lambda: now + 19 * DAY_S)
    verdict = customer.check()
    assert "clock was set back" in verdict.detail
    # A correction by seconds is tolerated, and a renewed licence starts a new record.
    monkeypatch.setattr("app.licence.folder.time.time", lambda: now + 20 * DAY_S - 60)
    assert customer.check().state == "valid"
    monkeypatch.setattr("app.licence.folder.time.time", lambda: now)
    renewed = write_licence(customer.path, publisher, customer.fingerprint(), "pets", days=30)
    assert renewed.serial != licence.serial
    assert customer.check().state == "valid"


def test_an_edited_clock_record_counts_as_lost(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    licence = write_licence(customer.path, publisher, customer.fingerprint(), "pets")
    now = int(time.time())
    customer.clock().remember(licence.serial, now + DAY_S, False, now)
    assert "clock was set back" in customer.check().detail
    path = customer.state / CLOCK_FILE
    path.write_text(path.read_text().replace(f"{now + DAY_S}", f"{now}"))
    assert customer.clock().recall(licence.serial, licence.issued, now).partial_since is not None


def test_the_best_of_several_licences_counts(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    fingerprint = customer.fingerprint()
    for name, days in (("a", 5), ("b", 300), ("c", 40)):
        path = customer.path.with_name(f"{name}.licence")
        write_licence(path, publisher, fingerprint, "pets", days=days)
    customer.path.write_text("damaged")
    assert customer.check().days_left == 300


def test_no_licence_is_issued_without_facts_unique_to_a_machine(
    publisher: Ed25519PrivateKey,
) -> None:
    fingerprint = Fingerprint(bytes(16), {"cpu": ["00"]}, {}, bytes(32))
    with pytest.raises(LicenceError, match="only this machine"):
        issue_licence(publisher, fingerprint, "A Customer", ["pets"])


def test_a_sealed_model_does_not_run_with_an_open_manifest(sealed: Package, tmp_path: Path) -> None:
    folder = shutil.copytree(sealed.folder.parent, tmp_path / "pets") / "1"
    manifest = folder / "manifest.json"
    text = manifest.read_text()
    begin = text.index(',\n  "licence"')
    manifest.write_text(text[:begin] + "\n}\n")
    with pytest.raises(TamperedPackage, match="needs no licence"):
        load_package(folder)


def test_a_sealed_package_travels_in_an_archive(sealed: Package, tmp_path: Path) -> None:
    archive = tmp_path / "pets.pkg"
    write_archive(sealed.folder, archive)
    installed = install_archive(archive, tmp_path / "weights", None)
    assert installed.sealed
    assert installed.digest == sealed.digest


def test_a_package_under_another_publishers_key_does_not_open(
    sealed: Package, tmp_path: Path, customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    """A manifest signed again, with one's own licence, does not decrypt the model either."""
    thief = Ed25519PrivateKey.generate()
    folder = shutil.copytree(sealed.folder.parent, tmp_path / "pets") / "1"
    _sign_anew(folder, thief)
    package = load_package(folder)
    write_licence(customer.path, thief, customer.fingerprint(), "pets")
    licences = _licences(customer)
    key = licences.unlock(package.manifest)
    with pytest.raises(TamperedPackage, match="does not open"):
        _opened(package, key).model_source()


@pytest.mark.parametrize("part", ["name", "version", "publisher"])
def test_a_sealed_model_decrypts_only_under_its_own_identity(
    sealed: Package, publisher: Ed25519PrivateKey, part: str
) -> None:
    key, manifest = content_key(publisher, "pets"), sealed.manifest
    assert unseal_model(sealed.model_path, key, manifest).getbuffer().nbytes
    assert manifest.licence is not None
    other = {
        "name": replace(manifest, name="cars"),
        "version": replace(manifest, version="2"),
        "publisher": replace(
            manifest, licence=replace(manifest.licence, publisher_key="A" * 43 + "=")
        ),
    }[part]
    with pytest.raises(TamperedPackage, match="does not open"):
        unseal_model(sealed.model_path, key, other)


def test_requests_are_answered_only_while_the_licence_is_valid(
    sealed: Package,
    customer: Customer,
    publisher: Ed25519PrivateKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fingerprint = customer.fingerprint()
    licences = _licences(customer)
    with pytest.raises(LockedPackage, match="there is no licence"):
        licences.unlock(sealed.manifest)
    with pytest.raises(AuthFailed, match="there is no licence"):
        licences.require(sealed.manifest)
    licence = write_licence(customer.path, publisher, fingerprint, "pets", days=1)
    changed: list[str] = []
    licences.refresh(changed.append, {"pets": {customer.spec.publisher_key}})
    assert changed == ["pets"]
    key = licences.unlock(sealed.manifest)
    assert _opened(sealed, key).model_source()
    licences.require(sealed.manifest)
    monkeypatch.setattr("app.licence.folder.time.time", lambda: licence.expires)
    licences.refresh(changed.append, {"pets": {customer.spec.publisher_key}})
    with pytest.raises(AuthFailed, match="expired"):
        licences.require(sealed.manifest)
    assert licences.describe()["pets"]["state"] == "refused"


def test_an_unreadable_licence_is_refused_only_at_the_second_check(
    sealed: Package, customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets", days=1)
    licences = _licences(customer)
    licences.unlock(sealed.manifest)
    whole = customer.path.read_bytes()
    for _ in range(2):
        customer.path.write_bytes(whole[:100])
        _refresh(licences, customer)
        licences.require(sealed.manifest)
        customer.path.write_bytes(whole)
        _refresh(licences, customer)
        licences.require(sealed.manifest)
    customer.path.unlink()
    _refresh(licences, customer)
    licences.require(sealed.manifest)
    _refresh(licences, customer)
    with pytest.raises(AuthFailed, match="there is no licence"):
        licences.require(sealed.manifest)


def test_a_fifo_in_the_licence_folder_stops_no_check(
    customer: Customer, publisher: Ed25519PrivateKey
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets", days=3)
    fifo = customer.path.with_name("a.licence")
    os.mkfifo(fifo)
    assert customer.check().days_left == 3
    customer.path.unlink()
    verdict = customer.check()
    assert verdict.state == "refused"
    assert f"{fifo} cannot be read: it is not a regular file" in verdict.advice


@pytest.mark.parametrize("name", [MACHINE_KEY_FILE, CLOCK_FILE])
def test_a_fifo_in_the_state_folder_stops_no_check(
    customer: Customer, publisher: Ed25519PrivateKey, name: str
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets", days=3)
    (customer.state / name).unlink()
    os.mkfifo(customer.state / name)
    # A lost clock record is tolerated, a lost key is not.
    assert customer.check().serves is (name == CLOCK_FILE)


def test_a_lock_held_by_another_process_delays_no_refusal(
    sealed: Package,
    customer: Customer,
    publisher: Ed25519PrivateKey,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    licence = write_licence(customer.path, publisher, customer.fingerprint(), "pets", days=1)
    licences = _licences(customer)
    held = acquire_lock(customer.state / LOCK_FILE)
    started = time.monotonic()
    licences.unlock(sealed.manifest)
    _refresh(licences, customer)
    licences.require(sealed.manifest)
    monkeypatch.setattr("app.licence.folder.time.time", lambda: licence.expires)
    _refresh(licences, customer)
    with pytest.raises(AuthFailed, match="expired"):
        licences.require(sealed.manifest)
    assert time.monotonic() - started < 5
    warnings = [message for message in caplog.messages if "clock record" in message]
    assert len(warnings) == 1
    assert "another process holds its lock" in warnings[0]
    os.close(held)


def test_a_verdict_that_is_too_old_is_none(
    sealed: Package,
    customer: Customer,
    publisher: Ed25519PrivateKey,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever stops the check: here the folder never answers, as on a lost network disk."""
    monkeypatch.setattr("app.licence.licences.MAX_AGE_S", 2)
    monkeypatch.setattr("app.licence.licences.REFRESH_S", 0.1)
    write_licence(customer.path, publisher, customer.fingerprint(), "pets", days=1)
    licences = _licences(customer)
    licences.unlock(sealed.manifest)
    publishers = {"pets": {customer.spec.publisher_key}}
    licences.watch(lambda _: None, lambda: publishers)
    time.sleep(4)
    licences.require(sealed.manifest)
    answers = threading.Event()
    best = LicenceFolder.best

    def hang(*arguments: Any) -> Decision:
        answers.wait()
        return best(*arguments)

    monkeypatch.setattr(LicenceFolder, "best", hang)
    wait_until(lambda: not licences.describe()["pets"]["serves"], wait_s=10, pause_s=0.1)
    with pytest.raises(AuthFailed, match="was not checked"):
        licences.require(sealed.manifest)
    wait_until(lambda: "was not checked" in caplog.text, wait_s=10, pause_s=0.1)
    answers.set()
    wait_until(lambda: licences.describe()["pets"]["serves"], wait_s=10, pause_s=0.1)
    licences.require(sealed.manifest)


def _refresh(licences: Licences, customer: Customer) -> None:
    licences.refresh(lambda _: None, {"pets": {customer.spec.publisher_key}})


def test_any_single_changed_byte_is_detected_and_named(
    sealed: Package, customer: Customer, publisher: Ed25519PrivateKey, tmp_path: Path
) -> None:
    write_licence(customer.path, publisher, customer.fingerprint(), "pets", days=400)
    assert customer.check().serves
    folder = shutil.copytree(sealed.folder.parent, tmp_path / "pets") / "1"
    targets = [customer.path, folder / "manifest.json", folder / sealed.manifest.model.file]
    dice = random.Random(5)  # noqa: S311 - the same thousand changes every time
    for _ in range(1000):
        target = dice.choice(targets)
        good = target.read_bytes()
        position = dice.randrange(len(good))
        bad = good[position] ^ dice.randrange(1, 256)
        target.write_bytes(good[:position] + bytes([bad]) + good[position + 1 :])
        if target == customer.path:
            verdict = customer.check()
            assert not verdict.serves
            assert str(target) in verdict.advice
        else:
            with pytest.raises(PackageError, match=r"manifest\.|model\.pt\.sealed"):
                load_package(folder)
        target.write_bytes(good)
    assert customer.check().serves
    assert load_package(folder)


def _licences(customer: Customer) -> Licences:
    return Licences(
        customer.path.parent, customer.state, "cpu", "", lambda: read_facts(customer.root)
    )


def _opened(package: Package, key: bytes | None) -> Package:
    return replace(package, content_key=key)


def _sign_anew(folder: Path, publisher: Ed25519PrivateKey) -> None:
    manifest = folder / "manifest.json"
    document = json.loads(manifest.read_text())
    public = base64.b64encode(publisher.public_key().public_bytes_raw()).decode()
    document["licence"]["publisher_key"] = public
    raw = json.dumps(document).encode()
    manifest.write_bytes(raw)
    (folder / "manifest.sig").write_bytes(base64.b64encode(publisher.sign(raw)) + b"\n")
