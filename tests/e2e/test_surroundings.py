"""The machine around the server: its environment, folders, limits and permissions."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.settings import PROJECT_ROOT
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


ACCOUNT = 12345
"""Has no entry in /etc/passwd."""

READ_ONLY = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro /
for folder in /tmp /var/tmp /dev/shm; do
    if mountpoint -q "$folder"; then mount -o remount,bind,ro "$folder"; fi
done
shift
exec setpriv --reuid 12345 --regid 12345 --clear-groups \
    --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search "$@"
"""
"""Reading and entering stay allowed everywhere, as the interpreter may be in root's home folder."""


class ReadOnlyServer(Server):
    """Can write to nothing but its state folder; without HOME and TMPDIR."""

    module = ("app.cli", "serve")

    def start(self) -> None:
        """Start the server in a mount namespace of its own."""
        with self.log_path.open("ab") as log, self.stdout_path.open("ab") as out:
            self.process = subprocess.Popen(
                self.confined("-m", *self.module),
                cwd=PROJECT_ROOT,
                env=self.bare_environment(),
                stdout=out,
                stderr=log,
            )

    def confined(self, *arguments: str) -> list[str]:
        """The command line that runs Python beside it, with the same restrictions."""
        unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", READ_ONLY, "sh"]
        return [*unshare, str(self.log_path.parent), sys.executable, *arguments]

    def bare_environment(self) -> dict[str, str]:
        """Its environment: the search path, the current folder's modules and the settings."""
        kept = {k: v for k, v in self._environment.items() if k.startswith("CLASSIFYD_")}
        return kept | {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT_ROOT)}

    def run(self, *arguments: str) -> str:
        """Run Python beside it until it ends; returns what it prints."""
        return subprocess.run(
            self.confined(*arguments),
            cwd="/",
            env=self.bare_environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout


def _can_mount() -> bool:
    command = ["unshare", "--mount", "--propagation", "private", "mount", "-o", "remount,bind,ro"]
    try:
        return subprocess.run([*command, "/"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not _can_mount(), reason="only root outside a container can mount")
def test_nothing_but_the_state_folder_needs_to_be_writable(tmp_path: Path) -> None:
    weights, state, licences = tmp_path / "weights", tmp_path / "state", tmp_path / "licences"
    publisher = Ed25519PrivateKey.generate()
    build_sealed_package(weights, "pets", publisher)
    state.mkdir()
    os.chown(state, ACCOUNT, ACCOUNT)
    write_licence(licences / "pets.licence", publisher, customer_fingerprint(state), "pets")
    with ReadOnlyServer(weights, state, licence_dir=licences, engine="auto") as server:
        assert psutil.Process(server.running.pid).uids().real == ACCOUNT
        assert server.classify("pets", {"image": RED}).json["results"][0]["name"] == "red"
        assert server.request("GET", "/readyz").status == 200
        server.run(str(PROJECT_ROOT / "deploy/container/healthcheck.py"))
        report = state / "fingerprint.json"
        server.run("-m", "app.cli", "licence", "fingerprint", "--output", str(report))
        assert report.exists()
        photo = str(PROJECT_ROOT / "tests/photos/coffee.jpg")
        for options in ((), ("--package", "pets")):
            answer = server.run("-m", "app.cli", "predict", *options, "--json", photo)
            assert json.loads(answer)["results"]
        lines = server.log_lines()
    assert [line for line in lines if line["level"] in {"warning", "error"}] == []


def _start_with_file_limit(weights: Path, state: Path, files: int) -> Server:
    server = Server(weights, state)
    with server.log_path.open("ab") as log, server.stdout_path.open("ab") as out:
        server.process = subprocess.Popen(
            ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", sys.executable]
            + ["-m", *server.module],
            cwd=PROJECT_ROOT,
            env=server._environment,
            stdout=out,
            stderr=log,
        )
    return server


@pytest.mark.parametrize("files", [64, 256, 1023])
def test_a_low_limit_of_open_files_is_refused_with_the_number_wanted(
    colour_weights: Path, tmp_path: Path, files: int
) -> None:
    server = _start_with_file_limit(colour_weights, tmp_path, files)
    assert server.running.wait(60) == 1
    assert f"the limit of open files is {files}, at least 1024 are needed" in server.log_text()
    assert "is ready" not in server.stdout_path.read_text()


def test_the_usual_limit_of_open_files_is_enough(colour_weights: Path, tmp_path: Path) -> None:
    server = _start_with_file_limit(colour_weights, tmp_path, 1024)
    try:
        server.wait_until_ready()
        connections = [server.connect() for _ in range(700)]
        for connection in connections:
            connection.connect()
        assert server.classify("colours", {"image": RED}).code == 0
        for connection in connections:
            connection.close()
        assert "Too many open files" not in server.log_text()
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another account")
@pytest.mark.skipif(find_spec("nncf") is None, reason="an optional extra")
def test_nncf_can_be_imported_by_an_account_without_a_home() -> None:
    program = "from app.inference.engines.quantisation import _import_nncf; _import_nncf()"
    rights = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    account = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups", *rights]
    ended = subprocess.run(
        [*account, sys.executable, "-W", "ignore", "-c", program],
        cwd=PROJECT_ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
