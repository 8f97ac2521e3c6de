"""337000 by licence, through the real server: on the guilty deploy name only."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.licence.clock import LOCK_FILE, ClockRecord
from app.licence.keys import clock_key, read_machine_key
from app.licence.licences import REFRESH_S
from app.observability.sampling import INTERVAL_S
from app.packages.changes import activate
from app.system.files import acquire_lock
from tests.support.images import RED
from tests.support.licences import build_sealed_package, customer_fingerprint, write_licence
from tests.support.machines import build_machine
from tests.support.packages import build_colour_package
from tests.support.server import Answer, Server

DAY_S = 86_400
EFFECT_TIMEOUT_S = 60

REFUSED = {
    "absent": "there is no licence",
    "forged": "another key",
    "copied": "another machine",
    "misnamed": "another deploy name",
    "gpu": "for a gpu, this server runs on a cpu",
    "expired": "expired",
    "tomorrow": "not yet valid",
    "clock": "clock was set back",
    "edited": "needs no licence",
}
SERVED = ("trial", "permanent", "repaired", "colours")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One deploy name for each way to be refused, and some that are served."""
    folder = tmp_path_factory.mktemp("customer")
    weights, state, licences = folder / "weights", folder / "state", folder / "licences"
    keys = {name: Ed25519PrivateKey.generate() for name in (*REFUSED, *SERVED[:-1])}
    for name, key in keys.items():
        build_sealed_package(weights, name, key)
    build_colour_package(weights, "colours", ["red", "green", "blue"])
    here = customer_fingerprint(state)
    elsewhere = customer_fingerprint(state, build_machine(folder / "other"))
    now = int(time.time())

    def put(name: str, **grant: object) -> None:
        key = grant.pop("key", keys[name])
        fingerprint = grant.pop("fingerprint", here)
        names = [str(grant.pop("deploy_name", name))]
        path = licences / f"{name}.licence"
        licence = write_licence(path, key, fingerprint, *names, **grant)  # type: ignore[arg-type]
        if name == "clock":
            clock = ClockRecord(state, clock_key(read_machine_key(state)))
            clock.remember(licence.serial, now + DAY_S, False, now)

    put("forged", key=Ed25519PrivateKey.generate())
    put("copied", fingerprint=elsewhere)
    put("misnamed", deploy_name="other-name")
    put("gpu", device="gpu", card="0" * 32)
    put("expired", expires=now)
    put("tomorrow", not_before=now + DAY_S)
    put("clock")
    put("edited")
    put("trial", days=30)
    put("permanent")
    put("repaired", facts=here.facts | {next(iter(here.facts)): ["0" * 32]})
    _edit_manifest(weights / "edited" / "1" / "manifest.json")
    with Server(weights, state, licence_dir=licences) as running:
        yield running


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_without_a_good_licence_is_refused(server: Server, name: str) -> None:
    answer = server.classify(name, {"image": RED})
    assert (answer.status, answer.code) == (200, 337000)
    assert answer.json["error_msg"] == "Auth check failed"
    assert REFUSED[name] in answer.detail


@pytest.mark.parametrize("name", SERVED)
def test_other_names_go_on(server: Server, name: str) -> None:
    answer = server.classify(name, {"image": RED})
    assert answer.code == 0
    assert answer.json["results"][0]["name"] == "red"


def test_the_licence_is_checked_before_the_body_and_after_the_path(server: Server) -> None:
    assert server.classify("absent", b"no json").code == 337000
    assert server.classify("nobody", {"image": RED}).code == 336001


def test_readiness_tells_how_every_licence_stands(server: Server) -> None:
    licences = server.request("GET", "/readyz").json["licences"]
    assert licences["trial"]["days_left"] == 30
    assert licences["trial"]["warning"]
    assert licences["permanent"]["state"] == "valid"
    assert licences["expired"]["state"] == "refused"
    assert "colours" not in licences


def test_the_log_tells_the_operator_what_to_do(server: Server) -> None:
    lines = [line for line in server.log_lines() if line.get("deploy_name") == "absent"]
    assert any("licence@example.com" in str(line.get("advice")) for line in lines)


def test_a_plain_model_is_nowhere_on_the_disk(server: Server) -> None:
    folder = server.log_path.parent.parent
    plain = (folder / "open-trial/trial/1/model.pt").read_bytes()
    copies = [
        path
        for part in ("weights/trial", "state")
        for path in (folder / part).rglob("*")
        if path.is_file() and plain[:64] in path.read_bytes()
    ]
    assert copies == []


def test_a_licence_put_in_place_renewed_and_withdrawn_counts_without_a_restart(
    tmp_path: Path,
) -> None:
    weights, state, path = tmp_path / "w", tmp_path / "state", tmp_path / "l" / "pets.licence"
    publisher = Ed25519PrivateKey.generate()
    build_sealed_package(weights, "pets", publisher)
    build_colour_package(weights, "colours", ["red", "green", "blue"])
    fingerprint = customer_fingerprint(state)
    with Server(weights, state, licence_dir=path.parent, engine="auto") as server:
        assert server.classify("pets", {"image": RED}).code == 337000
        write_licence(path, publisher, fingerprint, "pets", days=1)
        good = path.read_bytes()
        _wait_for(server, 0)
        path.write_bytes(good.replace(b'"days"', b'"DAYS"').replace(b"20", b"21", 1))
        assert "was changed" in _wait_for(server, 337000).detail
        path.write_bytes(good)
        _wait_for(server, 0)
        pids = server.worker_pids()
        assert _codes_during_renewal(server, path, publisher) == {0}
        assert server.worker_pids() == pids
        shutil.rmtree(path.parent)
        assert "there is no licence" in _wait_for(server, 337000).detail
        assert server.classify("colours", {"image": RED}).code == 0


def test_a_name_that_another_publisher_took_over_keeps_no_verdict_of_the_first(
    tmp_path: Path,
) -> None:
    weights, state, licences = tmp_path / "w", tmp_path / "state", tmp_path / "l"
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    build_sealed_package(weights, "pets", first)
    fingerprint = customer_fingerprint(state)
    write_licence(licences / "first.licence", first, fingerprint, "pets")
    with Server(weights, state, licence_dir=licences) as server:
        assert server.classify("pets", {"image": RED}).code == 0
        build_sealed_package(weights, "pets", second, version="2")
        activate(weights, "pets", "2")
        # The first publisher's version goes on until the second's licence is there.
        _wait_until(server, lambda ready: "pets" in ready["pending"])
        assert _standing(server)["state"] == "valid"
        licence = write_licence(licences / "second.licence", second, fingerprint, "pets", days=9)
        _wait_until(server, lambda ready: ready["serving"]["pets"]["version"] == "2")
        time.sleep(3 * REFRESH_S)
        refusals = _refusals(server)
        (licences / "first.licence").unlink()
        time.sleep(3 * REFRESH_S)
        assert _refusals(server) == refusals
        assert _standing(server)["serial"] == licence.serial
        assert server.classify("pets", {"image": RED}).code == 0
        build_colour_package(weights, "pets", ["red", "green", "blue"], version="3")
        activate(weights, "pets", "3")
        _wait_until(server, lambda ready: not ready["licences"])
        time.sleep(3 * INTERVAL_S)
        days = 'classifyd_licence_days_left{deploy_name="pets"}'
        assert f"{days} +Inf" in server.request("GET", "/metrics").body.decode()
        assert server.classify("pets", {"image": RED}).code == 0


def test_a_licence_ends_although_others_hold_locks_and_make_fifos(tmp_path: Path) -> None:
    weights, state, licences = tmp_path / "w", tmp_path / "state", tmp_path / "l"
    publisher = Ed25519PrivateKey.generate()
    build_sealed_package(weights, "pets", publisher)
    fingerprint = customer_fingerprint(state)
    write_licence(licences / "pets.licence", publisher, fingerprint, "pets")
    with Server(weights, state, licence_dir=licences, engine="auto") as server:
        assert server.classify("pets", {"image": RED}).code == 0
        os.mkfifo(licences / "a.licence")
        held = acquire_lock(state / LOCK_FILE)
        expires = int(time.time()) + 2
        write_licence(licences / "pets.licence", publisher, fingerprint, "pets", expires=expires)
        assert "expired" in _wait_for(server, 337000).detail
        assert time.time() < expires + 10
        assert _standing(server)["state"] == "refused"
        os.close(held)
        server.stop()
        # A start does not wait for them either.
        server.start()
        server.wait_until_ready()
        assert "expired" in server.classify("pets", {"image": RED}).detail


def _refusals(server: Server) -> int:
    return len([line for line in server.log_lines() if line.get("state") == "refused"])


def _standing(server: Server) -> dict[str, object]:
    standing: dict[str, object] = server.request("GET", "/readyz").json["licences"]["pets"]
    return standing


def _wait_until(server: Server, is_so: Callable[[dict[str, Any]], bool]) -> None:
    deadline = time.monotonic() + EFFECT_TIMEOUT_S
    while not is_so(server.request("GET", "/readyz").json):
        assert time.monotonic() < deadline, server.log_text()
        time.sleep(0.2)


def _codes_during_renewal(server: Server, path: Path, publisher: Ed25519PrivateKey) -> set[int]:
    """Every answer while a trial is replaced by a longer licence, until that one counts."""
    fingerprint = customer_fingerprint(path.parent.parent / "state")
    draft = path.with_name("draft")
    renewed = write_licence(draft, publisher, fingerprint, "pets", days=300)
    codes: set[int] = set()
    deadline = time.monotonic() + EFFECT_TIMEOUT_S
    with ThreadPoolExecutor(4) as pool:
        copying = pool.submit(_copy_slowly, draft, path)
        while time.monotonic() < deadline:
            answers = pool.map(lambda _: server.classify("pets", {"image": RED}), range(8))
            codes |= {answer.code for answer in answers}
            standing = server.request("GET", "/readyz").json["licences"]["pets"]
            if standing["serial"] == renewed.serial:
                copying.result()
                return codes
    raise AssertionError("the renewed licence never counted")


def _copy_slowly(source: Path, target: Path) -> None:
    """Overwrite a file as a copy over a slow line does: for a while it is there by half."""
    data = source.read_bytes()
    with target.open("wb") as stream:
        stream.write(data[: len(data) // 2])
        stream.flush()
        time.sleep(REFRESH_S * 0.95)
        stream.write(data[len(data) // 2 :])


def _wait_for(server: Server, code: int) -> Answer:
    deadline = time.monotonic() + EFFECT_TIMEOUT_S
    while time.monotonic() < deadline:
        answer = server.classify("pets", {"image": RED})
        if answer.code == code:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"{code} was never answered: {server.log_text()}")


def _edit_manifest(path: Path) -> None:
    """Take the licence block out, as someone with an editor would."""
    text = path.read_text()
    path.write_text(text[: text.index(',\n  "licence"')] + "\n}\n")
