"""The machine around the server: its environment, folders, limits and permissions."""

import shutil
from pathlib import Path

from tests.support.images import RED
from tests.support.packages import build_colour_package
from tests.support.server import Server


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
