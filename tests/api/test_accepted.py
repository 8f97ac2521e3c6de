"""What the contract accepts, over a real connection."""

import contextlib
import json
import socket
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.settings import PROJECT_ROOT
from tests.support.images import BLUE, GREEN, RED, solid, to_base64
from tests.support.server import Server

PATH = "/colours/ImageClassification"
CASES = PROJECT_ROOT / "tests" / "cases"
BROKEN_PNG = PROJECT_ROOT / "tests/corpus/hostile/apng_broken_deflate_in_IDAT.png"


def _names(results: list[dict[str, Any]]) -> list[str]:
    return [result["name"] for result in results]


def test_answer_has_exactly_the_documented_keys_in_order(server: Server) -> None:
    answer = server.classify("colours", {"image": RED})
    assert answer.status == 200
    assert list(answer.json) == ["log_id", "results"]
    assert all(list(result) == ["name", "score"] for result in answer.json["results"])
    assert answer.body.startswith(b'{"log_id":')


def test_scores_descend_and_are_float32(server: Server) -> None:
    scores = [r["score"] for r in server.classify("colours", {"image": RED}).json["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(float(np.float32(score)) == score for score in scores)
    assert sum(scores) == pytest.approx(1, abs=1e-5)


def test_each_colour_is_told_apart(server: Server) -> None:
    for image, name in ((RED, "red"), (GREEN, "green"), (BLUE, "blue")):
        assert server.classify("colours", {"image": image}).json["results"][0]["name"] == name


def test_equal_scores_come_by_class_index(server: Server) -> None:
    grey = to_base64(solid((77, 77, 77)))
    results = server.classify("colours", {"image": grey}).json["results"]
    assert _names(results) == ["red", "green", "blue"]


def test_deploy_names_are_served_side_by_side_unescaped(server: Server) -> None:
    answer = server.classify("farben", {"image": GREEN})
    assert answer.json["results"][0]["name"] == "绿色"
    assert "绿色".encode() in answer.body


@pytest.mark.parametrize(
    ("top_num", "count"),
    [
        (1, 1),
        (2, 2),
        ("2", 2),
        ("02", 2),
        (2.0, 2),
        (None, 3),
        (3, 3),
        (7, 3),
        (10**30, 3),
        ("9" * 5000, 3),
    ],
)
def test_top_num_is_accepted_in_every_documented_form(
    server: Server, top_num: object, count: int
) -> None:
    answer = server.classify("colours", {"image": RED, "top_num": top_num})
    assert len(answer.json["results"]) == count


def test_integer_of_any_length_is_json(server: Server) -> None:
    body = b'{"image": "%s", "top_num": %s}' % (RED.encode(), b"9" * 100_000)
    assert len(server.classify("colours", body).json["results"]) == 3


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json;charset=UTF-8",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=abc",
        "image/jpeg",
        "nonsense",
    ],
)
def test_any_content_type_is_ignored_when_the_body_is_json(
    server: Server, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert server.classify("colours", {"image": RED}, **headers).code == 0


def test_foreign_headers_and_query_are_ignored(server: Server) -> None:
    headers = {"Host": "aip.example.com", "Content-Encoding": "UTF8", "Accept": "text/html"}
    body = json.dumps({"image": RED}).encode()
    answer = server.request(
        "POST", PATH + "?access_token=24.abc&charset=UTF-8&x=%zz", body, headers
    )
    assert answer.code == 0


@pytest.mark.parametrize("suffix", ["", "/"])
def test_trailing_slash_is_accepted(server: Server, suffix: str) -> None:
    body = json.dumps({"image": RED}).encode()
    assert server.request("POST", PATH + suffix, body).code == 0


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + json.dumps({"image": RED}).encode(),
        json.dumps({"image": RED}).replace("/", "\\/").replace("=", "\\u003d").encode(),
        json.dumps({"image": RED, "unknown": [1, {"a": None}], "baike_num": 5}).encode(),
        b'{"image": "", "image": "' + RED.encode() + b'"}',
        b" \r\n\t" + json.dumps({"image": RED}).encode() + b"\n",
        json.dumps(
            {"image": "\r\n".join(RED[i : i + 76] for i in range(0, len(RED), 76))}
        ).encode(),
        json.dumps({"image": " \t" + RED + "\n"}).encode(),
        json.dumps({"image": "".join(f"\\u{ord(c):04x}" for c in RED)})
        .replace("\\\\", "\\")
        .encode(),
    ],
    ids=[
        "bom",
        "escapes",
        "unknown keys",
        "last key",
        "white space",
        "76 columns",
        "blanks",
        "\\u",
    ],
)
def test_forms_of_json_that_real_clients_send(server: Server, body: bytes) -> None:
    assert server.classify("colours", body).json["results"][0]["name"] == "red"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_each_format_is_decoded(server: Server, kind: str) -> None:
    image = to_base64(solid((250, 10, 10), kind=kind))
    assert server.classify("colours", {"image": image}).json["results"][0]["name"] == "red"


def test_timings_are_in_the_header_and_the_log(server: Server) -> None:
    answer = server.classify("colours", {"image": RED})
    stages = ["read", "parse", "base64", "guard", "decode", "preprocess", "queue", "infer"]
    assert [part.split(";")[0] for part in answer.headers["Server-Timing"].split(", ")] == stages
    line = server.log_line(answer.json["log_id"])
    assert list(line["stages_ms"]) == stages
    assert (line["image"], line["top"], line["code"]) == ("png 64x48", "red", 0)
    assert line["client"] == "127.0.0.1"


def test_an_irregular_jpg_is_a_remark_in_the_line_of_its_request(server: Server) -> None:
    image = to_base64((CASES / "extraneous_before_eoi.jpg").read_bytes())
    log_id = server.classify("colours", {"image": image}).json["log_id"]
    assert server.log_line(log_id)["remark"] == "extraneous bytes before the end marker: 1"
    assert (
        server.log_line(server.classify("colours", {"image": RED}).json["log_id"])["remark"] == ""
    )


def test_what_libraries_print_about_an_image_is_no_line_of_the_log(server: Server) -> None:
    before = server.log_text().count("\n")
    for name in ("truncated_60_with_eoi", "extraneous_before_eoi"):
        data = (CASES / f"{name}.jpg").read_bytes()
        server.classify("colours", {"image": to_base64(data)})
    server.classify("colours", {"image": to_base64(BROKEN_PNG.read_bytes())})
    assert server.log_lines()
    lines = server.log_text().splitlines()[before:]
    asked = [line for line in map(json.loads, lines) if line["path"] != "/nowhere"]
    assert [line["code"] for line in asked] == [336005, 0, 336005]


def _raw(server: Server, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_http_1_0_is_answered(server: Server) -> None:
    body = json.dumps({"image": RED}).encode()
    head = f"POST {PATH} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert b'"results"' in _raw(server, head + body)


def test_chunked_body_is_answered(server: Server) -> None:
    body = json.dumps({"image": RED}).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:7], body[7:99], body[99:]))
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    raw = _raw(server, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert b'"results"' in raw


def test_expect_100_continue_is_answered(server: Server) -> None:
    body = json.dumps({"image": RED}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    raw = _raw(server, head + body)
    assert raw.startswith(b"HTTP/1.1 100")
    assert b'"results"' in raw


def test_chunked_body_over_32_mib_is_refused(server: Server) -> None:
    chunk = b"%x\r\n%s\r\n" % (2**20, b" " * 2**20)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head + chunk * 33)
        answer = b""
        while b"}" not in answer and (piece := connection.recv(65536)):
            answer += piece
        assert b'"error_code":336004' in answer


def test_client_that_hangs_up_harms_nobody(server: Server) -> None:
    pids = server.worker_pids()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode()
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        connection.sendall(head + b'{"image": "')
        # Linger of zero seconds: the connection is reset, not closed in order.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert server.classify("colours", {"image": RED}).code == 0
    assert server.worker_pids() == pids


def test_log_ids_are_unique_and_positive(server: Server) -> None:
    ids = [server.classify("colours", {"image": RED}).json["log_id"] for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(0 < log_id < 2**53 for log_id in ids)


def test_health_and_readiness_are_open(server: Server) -> None:
    assert server.request("GET", "/healthz").json == {"status": "ok"}
    ready = server.request("GET", "/readyz")
    assert (ready.status, ready.json["ready"]) == (200, True)
    assert set(ready.json["serving"]) == {"colours", "farben"}


def test_client_that_sends_byte_by_byte_is_answered_and_let_go(
    colour_weights: Path, tmp_path: Path
) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode()
    with (
        Server(colour_weights, tmp_path, body_timeout_s=1) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=0.1) as connection,
    ):
        connection.sendall(head)
        answer = b""
        for _ in range(200):
            connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
                break
        assert b"the body took longer than 1 s" in answer


def test_client_that_stands_still_is_answered_and_let_go(
    colour_weights: Path, tmp_path: Path
) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode()
    with Server(colour_weights, tmp_path, read_timeout_s=1) as server:
        raw = _raw(server, head + b'{"image": "')
        assert b'"error_code":336001' in raw
        assert b"the body paused for more than 1 s" in raw
