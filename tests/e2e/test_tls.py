"""TLS of a real server: certificates that expire, and that are renewed while it runs."""

import os
import re
import shutil
import signal
import ssl
import time
from pathlib import Path

import pytest

from tests.support.certificates import make_certificate
from tests.support.commands import run_classifyd
from tests.support.images import RED
from tests.support.server import Server
from tests.support.waiting import wait_until

DAY_S = 86400
GAUGE = re.compile(
    r'^classifyd_tls_certificate_expiration_timestamp_seconds\{filename="server.pem"\} (\S+)$', re.M
)


def _days_left(server: Server) -> int:
    """Whole days, of the earliest certificate that a worker serves."""
    text = server.request("GET", "/metrics").body.decode()
    return round((float(GAUGE.findall(text)[0]) - time.time()) / DAY_S)


def _are_replaced(server: Server, pids: list[int]) -> bool:
    now = server.worker_pids()
    return len(now) == len(pids) and not set(now) & set(pids)


def _serves(server: Server, certificate: Path) -> bool:
    """Whether each of several connections gets a certificate."""
    served = {ssl.get_server_certificate(("127.0.0.1", server.port)) for _ in range(8)}
    return served == {certificate.read_text()}


@pytest.mark.parametrize(
    ("days", "said"), [((-20, -2), "expired on"), ((1, 20), "is not valid before")]
)
def test_a_wrong_date_is_named_but_stops_nobody(
    colour_weights: Path, tmp_path: Path, days: tuple[int, int], said: str
) -> None:
    certificate, key = make_certificate(tmp_path, *days)
    settings = {"tls_certificate": certificate, "tls_key": key}
    with Server(colour_weights, tmp_path, **settings) as server:
        assert server.classify("colours", {"image": RED}).code == 0
        (line,) = [each for each in server.log_lines() if said in each["message"]]
        assert line["level"] == "error"
        assert _days_left(server) == days[1]
        options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        folders = [f"--weights-dir={colour_weights}", f"--state-dir={tmp_path}"]
        told = run_classifyd("doctor", f"--port={server.port}", *folders, *options, status=1)
        assert re.search(rf"^failure +certificate +.*{said}", told.stdout, re.M)


def test_a_renewed_certificate_is_served_without_a_restart(
    colour_weights: Path, tmp_path: Path
) -> None:
    certificate, key = make_certificate(tmp_path, 0, 10)
    settings = {"tls_certificate": certificate, "tls_key": key, "workers": 2}
    with Server(colour_weights, tmp_path, **settings) as server:
        pids = sorted(server.worker_pids())
        assert _days_left(server) == 10
        assert "expires in 9 days" in server.log_text()
        renewed = tmp_path / "renewed"
        renewed.mkdir()
        new_certificate, new_key = make_certificate(renewed, 0, 90)
        old = certificate.read_text()

        shutil.copy(new_certificate, certificate)  # the key is late
        wait_until(lambda: server.log_text().count("does not belong to it") == 2)
        assert ssl.get_server_certificate(("127.0.0.1", server.port)) == old
        os.kill(pids[0], signal.SIGKILL)  # also by a worker that starts now
        server.running.send_signal(signal.SIGHUP)
        wait_until(lambda: _are_replaced(server, pids))
        assert ssl.get_server_certificate(("127.0.0.1", server.port)) == old
        assert server.classify("colours", {"image": RED}).code == 0
        assert _days_left(server) == 10
        pids = sorted(server.worker_pids())

        shutil.copy(new_key, key)
        wait_until(lambda: _serves(server, certificate))
        wait_until(lambda: _days_left(server) == 90)
        assert sorted(server.worker_pids()) == pids

        # On SIGHUP the new workers read the files at once.
        make_certificate(tmp_path, 0, 20)
        server.running.send_signal(signal.SIGHUP)
        wait_until(lambda: _serves(server, certificate) and _days_left(server) == 20)
        wait_until(lambda: _are_replaced(server, pids))
        assert _days_left(server) == 20
        assert "expires in 19 days" in server.log_text()
        assert "Traceback" not in server.log_text()


def test_no_gauge_without_tls(server: Server) -> None:
    assert not GAUGE.findall(server.request("GET", "/metrics").body.decode())
