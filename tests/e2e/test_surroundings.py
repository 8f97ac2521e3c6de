"""The machine around the server: its environment, folders, limits and permissions."""

import shutil
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.images import RED
from tests.support.licences import build_sealed_package, customer_fingerprint, write_licence
from tests.support.packages import build_colour_package, build_failing_package
from tests.support.server import Server
from tests.support.waiting import wait_until


def test_a_kubernetes_service_of_the_same_name_does_not_stop_the_server(
    colour_weights: Path, tmp_path: Path
) -> None:
    config = tmp_path / "classifyd.toml"
    service = {
        "service_host": "10.96.4.7",
        "service_port": 8000,
        "port": "tcp://10.96.4.7:8000",
        "port_8000_tcp": "tcp://10.96.4.7:8000",
    }
    server = Server(colour_weights, tmp_path, **service, config=config, workers=2)
    config.write_text(f"port = {server.port}\n")
    with server:
        assert server.classify("colours", {"image": RED}).code == 0
        lines = [line for line in server.log_lines() if "Kubernetes" in line["message"]]
    assert len(lines) == 1
    assert all(f"CLASSIFYD_{name.upper()}" in lines[0]["message"] for name in service)


def test_foreign_folders_beside_packages_are_named_once_and_leave_the_server_ready(
    tmp_path: Path,
) -> None:
    weights = tmp_path / "weights"
    build_colour_package(weights, "colours", ["red", "green", "blue"])
    for name in (
        "lost+found",
        "@eaDir",
        "__MACOSX/colours",
        ".ipynb_checkpoints",
        "colours/@eaDir",
    ):
        (weights / name).mkdir(parents=True)
    shutil.copy(weights / "colours/1/labels.txt", weights / "colours/._labels.txt")
    with Server(weights, tmp_path, workers=2) as server:
        ready = server.request("GET", "/readyz")
        assert (ready.status, list(ready.json["serving"])) == (200, ["colours"])
        assert server.classify("colours", {"image": RED}).code == 0
        (line,) = [line for line in server.log_lines() if "passed over" in line["message"]]
    assert line["message"].endswith(
        ".ipynb_checkpoints, @eaDir, __MACOSX, lost+found, colours/._labels.txt, colours/@eaDir"
    )


def test_a_failed_start_is_on_standard_error_and_in_the_log_file(tmp_path: Path) -> None:
    weights, log = tmp_path / "weights", tmp_path / "logs" / "classifyd.log"
    package = build_colour_package(weights, "colours", ["red", "green", "blue"])
    (package / "model.pt").write_bytes(b"not a model")
    server = Server(weights, tmp_path, log_file=log)
    server.start()
    assert server.running.wait(60) == 3
    for text in (server.log_text(), log.read_text()):
        assert "model.pt" in text
        assert "model.sha256" in text


def test_after_the_start_errors_are_in_the_log_file_alone(tmp_path: Path) -> None:
    weights, log = tmp_path / "weights", tmp_path / "classifyd.log"
    build_failing_package(weights, "failing")
    broken = build_colour_package(weights, "broken", ["red", "green", "blue"])
    (broken / "labels.txt").write_text("red\n")
    with Server(weights, tmp_path, log_file=log, workers=2) as server:
        server.wait_for_port()
        assert "labels.txt" in server.log_text()
        before = server.log_text()
        answer = server.classify("failing", {"image": RED})
        assert answer.code == 336000
        wait_until(
            lambda: f"log_id {answer.json['log_id']} failed" in log.read_text(),
            wait_s=10,
            pause_s=0.1,
        )
        assert server.log_text().startswith(before)
        assert "log_id" not in server.log_text()


def test_the_greeting_lists_what_is_served_and_why_the_rest_is_not(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    build_colour_package(weights, "colours", ["red", "green", "blue"])
    broken = build_colour_package(weights, "broken", ["red", "green", "blue"])
    (broken / "labels.txt").write_text("red\n")
    with Server(weights, tmp_path) as server:
        server.wait_for_port()
        greeting = server.stdout_path.read_text()
        assert server.request("GET", "/readyz").status == 503
    ready, _, missing = greeting.partition("Not served:")
    assert f":{server.port}/colours/ImageClassification" in ready
    assert "broken" not in ready
    assert "  broken: " in missing
    assert "labels.txt" in missing


def test_a_server_without_a_model_is_not_ready(tmp_path: Path) -> None:
    weights, state, licences = tmp_path / "weights", tmp_path / "state", tmp_path / "licences"
    publisher = Ed25519PrivateKey.generate()
    build_sealed_package(weights, "pets", publisher)
    fingerprint = customer_fingerprint(state)
    with Server(weights, state, licence_dir=licences) as server:
        ready = server.request("GET", "/readyz")
        assert (ready.status, ready.json["ready"], ready.json["serving"]) == (503, False, {})
        assert "there is no licence" in ready.json["reasons"]["pets"]
        assert ready.json["awaits_licence"]
        assert server.request("GET", "/healthz").status == 200
        greeting = server.stdout_path.read_text()
        assert "is ready" not in greeting
        assert "pets: " in greeting.partition("Not served:")[2]
        write_licence(licences / "pets.licence", publisher, fingerprint, "pets")
        wait_until(lambda: server.request("GET", "/readyz").status == 200, wait_s=30, pause_s=0.2)
        assert not server.request("GET", "/readyz").json["awaits_licence"]
        shutil.rmtree(weights / "pets")
        wait_until(lambda: server.request("GET", "/readyz").status == 503, wait_s=30, pause_s=0.2)
