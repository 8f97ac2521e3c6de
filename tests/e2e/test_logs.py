"""Rotation of the log file, and searching it for a request."""

import getpass
import grp
import gzip
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT
from tests.support.commands import run_classifyd
from tests.support.images import RED
from tests.support.packages import build_failing_package
from tests.support.server import Server
from tests.support.tools import find_program
from tests.support.waiting import wait_until


def _logs(*arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "app.cli", "logs", *arguments]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CLASSIFYD_")}
    return subprocess.run(
        command, env=clean, cwd=PROJECT_ROOT, input=stdin, capture_output=True, check=False
    )


def test_log_id_that_is_not_in_the_log_is_traced_to_its_node(tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    log_id = (1_800_000_000 << 10 | 417) << 11 | 5
    ended = _logs("--file", str(tmp_path / "empty.log"), str(log_id))
    assert ended.returncode == 1
    assert f"{log_id} is of node 417, 2027-01-15T" in ended.stderr.decode()
    of_a_proxy = _logs("--file", str(tmp_path / "empty.log"), "1795000000000000")
    assert b"node" not in of_a_proxy.stderr


def _logged_ids(folder: Path) -> list[int]:
    text = b"".join(path.read_bytes() for path in folder.glob("access.log*"))
    lines = text.split(b"\n")[:-1]  # the last one may be incomplete
    entries = [json.loads(line) for line in lines]
    return [entry["log_id"] for entry in entries if entry["message"] == "request"]


@pytest.mark.parametrize("way", ["renamed by others", "renamed by size"])
def test_rotation_loses_no_line_of_two_workers(
    colour_weights: Path, tmp_path: Path, way: str
) -> None:
    log = tmp_path / "logs" / "access.log"
    by_size = {"log_file_max_mib": 1, "log_file_keep": 100} if way == "renamed by size" else {}
    settings = {"workers": 2, "log_file": log, **by_size}
    with Server(colour_weights, tmp_path, **settings) as server, ThreadPoolExecutor(4) as pool:
        # A long query string is not logged; a long path is, and quickly fills a file.
        path = f"/{'x' * 6000}/ImageClassification"
        answered: list[int] = []
        for number in range(4):
            asking = [pool.submit(server.request, "POST", path, b"{}") for _ in range(100)]
            if not by_size:
                wait_until(log.exists, log, pause_s=0.005)
                log.rename(f"{log}.{number}")  # while requests are in flight
            answered += [future.result().json["log_id"] for future in asking]
    assert set(answered) <= set(_logged_ids(log.parent))
    assert len(_logged_ids(log.parent)) == len(set(_logged_ids(log.parent)))
    assert len(list(log.parent.glob("access.log.*"))) > 1


def test_truncated_log_file_is_written_from_its_start(colour_weights: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with Server(colour_weights, tmp_path, log_file=log) as server:
        server.classify("colours", {"image": RED})
        wait_until(lambda: len(_logged_ids(tmp_path)) == 1, server)
        os.truncate(log, 0)
        log_id = server.classify("colours", {"image": RED}).json["log_id"]
        wait_until(lambda: bool(_logged_ids(tmp_path)), server)
        assert _logged_ids(tmp_path) == [log_id]
        assert log.read_bytes()[:1] == b"{"


def test_request_is_found_by_id_code_name_and_time(tmp_path: Path) -> None:
    weights, log = tmp_path / "weights", tmp_path / "access.log"
    build_failing_package(weights, "failing")
    with Server(weights, tmp_path, log_file=log) as server:
        failed = server.classify("failing", {"image": RED}).json["log_id"]
        wrong = server.classify("failing", {}).json["log_id"]
    file = ["--file", str(log)]
    by_id = _logs(*file, str(failed)).stdout.decode()
    assert f"log_id={failed}" in by_id
    assert "red is not supported" in by_id  # the traceback
    by_code = [
        json.loads(x) for x in _logs(*file, "--code", "336006", "--json").stdout.splitlines()
    ]
    assert [line["log_id"] for line in by_code] == [wrong]
    assert len(_logs(*file, "--name", "failing", "--since", "1h").stdout.splitlines()) == 2
    for nothing in (["1"], ["--name", "other"], ["--since", "2999-01-01"]):
        ended = _logs(*file, *nothing)
        assert (ended.returncode, ended.stdout) == (1, b"")
    log.rename(f"{log}.1")
    log.touch()
    assert str(wrong).encode() in _logs(*file, str(wrong)).stdout
    piped = _logs("--file", "-", str(wrong), stdin=Path(f"{log}.1").read_bytes())
    assert str(wrong).encode() in piped.stdout


def test_missing_log_is_reported_in_one_line(tmp_path: Path) -> None:
    ended = _logs("--file", str(tmp_path / "none.log"), "5")
    assert ended.returncode == 3
    assert ended.stderr.decode().startswith(f"classifyd: {tmp_path / 'none.log'} cannot be read")
    assert ended.stderr.count(b"\n") == 1


def _logrotate(program: str, folder: Path, log: Path, more: str) -> None:
    """Rotate with the configuration of deploy/, now and in another folder."""
    example = (PROJECT_ROOT / "deploy" / "logrotate.conf").read_text(encoding="utf-8")
    assert "/var/log/classifyd/classifyd.log {" in example
    config = folder / "logrotate.conf"
    # As root, logrotate needs the owner of a folder that others can write to.
    owner = f"su {getpass.getuser()} {grp.getgrgid(os.getgid()).gr_name}\n"
    text = example.replace("/var/log/classifyd/classifyd.log", str(log))
    config.write_text(owner + text.replace("    daily\n", f"    daily\n    {more}\n"))
    config.chmod(0o644)
    command = [program, "--force", "--state", str(folder / "status"), str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("more", ["", "create 0640"])
def test_logrotate_loses_no_line_under_load(
    colour_weights: Path, tmp_path: Path, more: str
) -> None:
    logrotate = find_program("logrotate")
    log = tmp_path / "logs" / "classifyd.log"
    settings = {"workers": 2, "log_file": log}
    log.parent.mkdir()
    with Server(colour_weights, tmp_path, **settings) as server, ThreadPoolExecutor(4) as pool:
        answered: list[int] = []
        for _ in range(6):
            answered.append(server.classify("colours", {"image": RED}).json["log_id"])
            wait_until(lambda: log.exists() and log.stat().st_size > 0, log)
            asking = [pool.submit(server.classify, "colours", {"image": RED}) for _ in range(60)]
            for future in asking[:20]:
                future.result()
            _logrotate(logrotate, tmp_path, log, more)  # while 40 are in flight
            answered += [future.result().json["log_id"] for future in asking]
        found = str(answered[0])
        assert f"log_id={found}" in _logs("--file", str(log), found).stdout.decode()
    rotated = sorted(path.name for path in log.parent.iterdir())
    assert rotated[:2] == ["classifyd.log", "classifyd.log.1"]
    assert rotated[2:] == [f"classifyd.log.{number}.gz" for number in range(2, 7)]
    lines = b"".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in log.parent.iterdir()
    ).splitlines()
    entries = [json.loads(line) for line in lines]
    logged = [entry["log_id"] for entry in entries if entry["message"] == "request"]
    assert set(answered) <= set(logged)
    assert len(logged) == len(set(logged))


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_a_client_sends_cannot_act_on_a_terminal(
    colour_weights: Path, tmp_path: Path, log_format: str
) -> None:
    paths = ["%C2%85%E2%80%A8%E2%80%AE", "%1B%5B2J%C2%9B", "%EF%BB%BF%F3%A0%81%81"]
    settings = {"log_format": log_format, "log_level": "debug"}
    with Server(colour_weights, tmp_path, **settings) as server:
        for path in paths:
            server.request("POST", f"/forged{path}/ImageClassification", b"{}")
            server.request("GET", f"/forged{path}")
        wait_until(lambda: server.log_text().count("forged") >= 2 * len(paths), server)
        lines = server.log_text().split("\n")
    assert sum("forged" in line for line in lines) >= 2 * len(paths)
    assert all(line.isprintable() for line in lines)


def test_logs_prints_no_character_that_a_terminal_acts_on(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    line = {"time": "2026-11-25T10:00:00+00:00", "message": "request", "path": "/\u202e\x1b\x85猫"}
    log.write_text(json.dumps(line, ensure_ascii=False) + "\n")
    text = run_classifyd("logs", "--file", log).stdout
    assert text.strip().isprintable()
    assert "猫" in text
