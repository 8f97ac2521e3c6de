"""Access tokens and TLS, with the real server and the real command."""

import datetime
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from app.access_tokens import AccessTokens, add_token, read_tokens, revoke_token
from app.errors import AuthFailed, OperatorError
from app.settings import PROJECT_ROOT
from tests.support.commands import run_classifyd
from tests.support.images import RED
from tests.support.server import Answer, Server

CALL = json.dumps({"image": RED}).encode()
PATH = "/colours/ImageClassification"


def _token(state: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).with_name("classifyd")), "token", *arguments]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CLASSIFYD_")}
    environment = clean | {"CLASSIFYD_STATE_DIR": str(state), "CLASSIFYD_ACCESS_TOKENS": "on"}
    return subprocess.run(
        command, env=environment, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def locked(colour_weights: Path, state: Path) -> Iterator[Server]:
    with Server(colour_weights, state, access_tokens="on") as running:
        yield running


def _bearer(server: Server, token: str) -> Answer:
    return server.request("POST", PATH, CALL, {"Authorization": f"Bearer {token}"})


def test_token_lets_a_call_through_until_it_is_revoked(locked: Server, state: Path) -> None:
    token = _token(state, "add", "till-1").stdout.strip()
    assert _bearer(locked, token).code == 0
    in_query = locked.request("POST", f"{PATH}?access_token={token}", CALL)
    assert in_query.code == 0
    assert "till-1" in locked.log_line(in_query.json["log_id"]).values()
    metrics = locked.request("GET", "/metrics", None, {"Authorization": f"bearer {token}"})
    assert b'classifyd_token_requests_total{token="till-1"} 3.0' in metrics.body
    listed = json.loads(_token(state, "list", "--json").stdout)
    assert [row["name"] for row in listed] == ["till-1"]
    assert _token(state, "revoke", "till-1").returncode == 0
    assert _bearer(locked, token).code == 337000
    assert token not in locked.log_text()
    assert token not in locked.log_path.with_name("tokens.json").read_text()


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer wrong", "Basic dTpw", "Bearer \xff"])
def test_call_without_a_valid_token_is_337000(locked: Server, header: str) -> None:
    answer = locked.request("POST", PATH, CALL, {"Authorization": header} if header else {})
    assert (answer.status, answer.code) == (200, 337000)
    assert "access token" in answer.detail
    assert locked.request("GET", "/metrics").status == 403


@pytest.mark.parametrize("end", ["ImageClassification", "ImageClassification/batch"])
def test_without_a_token_no_answer_tells_which_names_exist(locked: Server, end: str) -> None:
    """The token comes before the name, so that nobody can find out names by trying."""
    for header in ({}, {"Authorization": "Bearer wrong"}):
        for body in (CALL, b"no json", b""):
            known, unknown = (
                locked.request("POST", f"/{name}/{end}", body, header)
                for name in ("colours", "nobody")
            )
            assert (known.status, known.code, known.detail) == (200, 337000, unknown.detail)
            assert known.headers.keys() == unknown.headers.keys()
            assert len(known.body) == len(unknown.body)


def test_without_a_token_the_console_tells_no_names(locked: Server) -> None:
    answers = [
        locked.request("POST", f"/console/preview/{name}", CALL) for name in ("colours", "nobody")
    ]
    assert [(answer.status, answer.code) for answer in answers] == [(403, 337000)] * 2
    for path in ("models", "models/colours", "samples/colours/0", "samples/nobody/0"):
        assert locked.request("GET", f"/console/{path}").code == 337000
    assert locked.request("GET", "/console/status").json == {"ready": True}


def test_a_valid_token_tells_an_unknown_name(locked: Server, state: Path) -> None:
    token = add_token(state / "tokens.json", "till-9")
    header = {"Authorization": f"Bearer {token}"}
    answer = locked.request("POST", "/nobody/ImageClassification", CALL, header)
    assert answer.code == 336001


@pytest.mark.parametrize("path", ["/readyz", "/docs", "/docs?lang=zh", "/openapi.json", "/"])
def test_open_pages_name_models_only_to_callers_with_a_token(
    locked: Server, state: Path, path: str
) -> None:
    token = add_token(state / "tokens.json", f"reader-{abs(hash(path))}")
    for header in ({}, {"Authorization": "Bearer wrong"}):
        answer = locked.request("GET", path, None, header)
        assert answer.status == 200
        assert b"colours" not in answer.body
        assert b"farben" not in answer.body
    if path != "/":
        query = f"{path}{'&' if '?' in path else '?'}access_token={token}"
        for answer in (
            locked.request("GET", path, None, {"Authorization": f"Bearer {token}"}),
            locked.request("GET", query),
        ):
            assert b"colours" in answer.body
            assert b"farben" in answer.body


def test_readiness_without_a_token_is_only_that(locked: Server) -> None:
    assert locked.request("GET", "/readyz").json == {"ready": True, "awaits_licence": False}


def test_doctor_names_the_models_without_a_token(
    locked: Server, state: Path, colour_weights: Path
) -> None:
    folders = ["--weights-dir", colour_weights, "--state-dir", state]
    told = run_classifyd("doctor", "--port", locked.port, "--access-tokens", "on", *folders).stdout
    assert "colours/1 is served" in told


def test_no_level_logs_a_token(colour_weights: Path, tmp_path: Path) -> None:
    token, wrong = add_token(tmp_path / "tokens.json", "till-1"), "W" * 43
    with Server(colour_weights, tmp_path, access_tokens="on", log_level="debug") as server:
        for secret in (token, wrong):
            _bearer(server, secret)
            server.request("POST", f"{PATH}?access_token={secret}", CALL)
            server.request("GET", f"/nowhere?access_token={secret}")
            server.request("GET", f"/metrics?access_token={secret}")
            for lines in (
                [f"GET {PATH}?access_token={secret} HTTP/1.1", "Broken header"],
                [f"GET {PATH} HTTP/1.1", f"Authorization Bearer {secret}"],
                [f"GET {PATH} HTTP/1.1", f"Authorization: Bearer {secret}\x00"],
                [f"GET {PATH} HTTP/9.9", f"Authorization: Bearer {secret}"],
                [f"POST {PATH}?access_token={secret} HTTP/1.1", "Content-Length: x"],
                [f"GET {PATH} HTTP/1.1", f"Authorization: Bearer {secret}{'x' * 9000}"],
            ):
                with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
                    connection.sendall("\r\n".join([*lines, "", ""]).encode())
                    connection.recv(4096)
        log = server.log_text()
    assert '"level":"debug"' in log
    assert token not in log
    assert wrong not in log


def test_health_stays_open(locked: Server) -> None:
    assert locked.request("GET", "/healthz").status == 200
    assert locked.request("GET", "/readyz").status == 200


def test_expired_token_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    today = datetime.datetime.now(datetime.UTC).date()
    valid = add_token(path, "today", today)
    late = add_token(path, "late", today - datetime.timedelta(days=1))
    tokens = AccessTokens(path)
    assert tokens.check(valid) == "today"
    with pytest.raises(AuthFailed, match="late expired"):
        tokens.check(late)


def test_damaged_file_keeps_those_valid_that_were(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = add_token(path, "a")
    tokens = AccessTokens(path)
    path.write_text('{"tokens": [')
    assert tokens.check(token) == "a"
    with pytest.raises(OperatorError, match="not a tokens file"):
        AccessTokens(path)


def test_fifo_in_place_of_the_tokens_file_keeps_those_valid_that_were(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = add_token(path, "a")
    tokens = AccessTokens(path)
    path.unlink()
    os.mkfifo(path)
    assert tokens.check(token) == "a"
    with pytest.raises(OperatorError, match="cannot be read: it is not a regular file"):
        AccessTokens(path)


def test_tokens_file_is_the_owners_alone_and_names_are_unique(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "tokens.json"
    add_token(path, "a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OperatorError, match="a token named a exists"):
        add_token(path, "a")
    with pytest.raises(OperatorError, match="expected 1 to 64"):
        add_token(path, "_rejected")
    with pytest.raises(OperatorError, match="no token is named b; there are: a"):
        revoke_token(path, "b")
    assert [token.name for token in read_tokens(path)] == ["a"]


def test_concurrent_changes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    for name in ("kept", "revoked"):
        add_token(path, name)
    added = [f"new-{index}" for index in range(12)]
    changes = [("add", name) for name in added]
    changes.insert(6, ("revoke", "revoked"))
    command = [sys.executable, "-m", "app.cli", "token"]
    processes = [
        subprocess.Popen(
            [*command, *change, "--tokens-file", path], cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL
        )
        for change in changes
    ]
    assert [process.wait() for process in processes] == [0] * len(changes)
    assert sorted(token.name for token in read_tokens(path)) == sorted(["kept", *added])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_wrong_use_of_the_command_is_one_line(tmp_path: Path) -> None:
    ended = _token(tmp_path, "revoke", "nobody")
    assert ended.returncode == 3
    assert ended.stderr == "classifyd: no token is named nobody; there are: none\n"


def test_tls_by_certificate_files(
    colour_weights: Path, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    settings = {"tls_certificate": certificate[0], "tls_key": certificate[1]}
    server = Server(colour_weights, tmp_path, **settings)
    server.start()
    try:
        # A plain request is dropped without an answer and without a traceback in the log.
        server.wait_for_port()
        plain = HTTPConnection("127.0.0.1", server.port, timeout=60)
        plain.request("POST", PATH, CALL)
        with closing(plain), pytest.raises(OSError, match=r"reset|closed|without response"):
            plain.getresponse()
        trusted = ssl.create_default_context(cafile=str(certificate[0]))
        connection = HTTPSConnection("localhost", server.port, context=trusted, timeout=60)
        connection.request("POST", PATH, CALL)
        assert json.loads(connection.getresponse().read())["results"][0]["name"] == "red"
        connection.close()
        assert "https://127.0.0.1" in server.stdout_path.read_text()
        options = ["--tls-certificate", certificate[0], "--tls-key", certificate[1]]
        folders = ["--weights-dir", colour_weights, "--state-dir", tmp_path]
        told = run_classifyd("doctor", "--port", server.port, *folders, *options).stdout
        assert f"the server at 127.0.0.1:{server.port} is ready" in told
        assert "Traceback" not in server.log_text()
    finally:
        server.stop()


def test_certificate_without_its_key_refuses_to_start(
    colour_weights: Path, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    command = [str(Path(sys.executable).with_name("classifyd")), "serve"]
    folders = [f"--weights-dir={colour_weights}", f"--state-dir={tmp_path}"]
    for key, told in ((None, "give both"), (certificate[0], "that belongs to it")):
        options = [f"--tls-certificate={certificate[0]}", *([f"--tls-key={key}"] if key else [])]
        ended = subprocess.run(
            [*command, *folders, *options], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 2
        assert told in ended.stderr
        assert "Traceback" not in ended.stderr
