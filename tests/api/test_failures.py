"""The failure table: a request for each documented code, over a real connection."""

import json
from dataclasses import dataclass, field

import pytest

from app.errors import REGISTRY
from app.settings import PROJECT_ROOT
from tests.support.images import PHOTOS, RED, solid, to_base64
from tests.support.server import Server

LIMIT = 4_194_304
CASES = PROJECT_ROOT / "tests" / "cases"


def _image(text: str) -> bytes:
    return json.dumps({"image": text}).encode()


def _top_num(value: object) -> bytes:
    return json.dumps({"image": RED, "top_num": value}).encode()


@dataclass(frozen=True)
class Failure:
    """A request and what must come back for it."""

    fault: str
    code: int
    body: bytes
    status: int
    detail: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/colours/ImageClassification"
    method: str = "POST"


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PNG = solid((9, 9, 9))
JPEG = solid((9, 9, 9), kind="JPEG")
BMP = solid((9, 9, 9), kind="BMP")

WRONG_TOP_NUMS: list[object] = [0, -1, 1.5, True, False, "", "0", "000", "-1", "1.5", "five"]
WRONG_TOP_NUMS += [" 5", "5\n", "٥", [], {}]


def _wrong_top_num(value: object) -> Failure:
    return Failure(f"top_num {value!r}", 336001, _top_num(value), 400, "top_num: ")


FAILURES = [
    Failure("unknown deploy name", 336001, b"{}", 404, path="/nobody/ImageClassification"),
    Failure("GET on the API", 336001, b"", 405, "GET is not allowed", method="GET"),
    Failure("PUT on the API", 336001, b"{}", 405, "PUT is not allowed", method="PUT"),
    Failure("empty body", 336002, b"", 400, "the body is empty"),
    Failure("text that is no JSON", 336002, b"hello", 400, "line 1 column 1"),
    Failure("JSON cut short", 336002, b'{"image": "', 400),
    Failure("JSON that is not UTF-8", 336002, b'{"image": "\xff"}', 400, "byte 11 is not UTF-8"),
    Failure("NaN, which is no JSON", 336002, b'{"image": "", "x": NaN}', 400, "line 1 column"),
    Failure("lone surrogate", 336003, b'{"image": "\\ud800"}', 400, "character 0"),
    Failure("number beyond a float", 336001, _top_num(0).replace(b": 0}", b": 1e400}"), 400),
    Failure("nesting deeper than any request", 336002, b"[" * 100_000, 400),
    Failure("form in place of JSON", 336001, b"image=abc", 400, "a form", FORM),
    Failure(
        "multipart form",
        336001,
        b"--x\r\n",
        400,
        "",
        {"Content-Type": "multipart/form-data; boundary=x"},
    ),
    Failure("empty form", 336001, b"", 400, "", FORM),
    Failure("JSON array", 336001, b"[]", 400, "an array, an object wanted"),
    Failure("JSON string", 336001, b'"abc"', 400),
    Failure("JSON null", 336001, b"null", 400),
    Failure("JSON number", 336001, b"1", 400),
    Failure("image absent", 336006, b"{}", 400, "image: absent"),
    Failure("image null", 336006, b'{"image": null}', 400),
    Failure("image empty", 336006, b'{"image": ""}', 400),
    Failure("image a number", 336001, b'{"image": 5}', 400, "image: 5, a base64 string wanted"),
    Failure("image a list", 336001, b'{"image": ["x"]}', 400, "image: an array"),
    Failure("image a boolean", 336001, b'{"image": true}', 400, "image: a boolean"),
    Failure("last duplicate wins", 336006, b'{"image": "' + RED.encode() + b'", "image": ""}', 400),
    *(_wrong_top_num(value) for value in WRONG_TOP_NUMS),
    Failure("data URI", 336003, _image("data:image/png;base64," + RED), 400, "data: header"),
    Failure("URL", 336003, _image("http://host/cat.jpg"), 400, "character 4 is not base64"),
    Failure("URL-safe alphabet", 336003, _image("-_-_"), 400, "character 0"),
    Failure("percent-encoded", 336003, _image(RED.replace("=", "%3D") + "%2B"), 400),
    Failure("missing padding", 336003, _image("QUI"), 400, "padding"),
    Failure("padding in the middle", 336003, _image("QQ==QQ=="), 400),
    Failure("Chinese characters", 336003, _image("图片"), 400, "character 0"),
    Failure("base64 over the limit", 336004, _image("A" * (LIMIT + 4)), 413, "at most 4194304"),
    Failure("body over 32 MiB", 336004, b" " * (32 * 2**20 + 1), 413),
    Failure("14 px high", 336004, _image(to_base64(solid((1, 2, 3), (64, 14)))), 413, "14 px"),
    Failure("14 px wide", 336004, _image(to_base64(solid((1, 2, 3), (14, 64)))), 413, "14 px"),
    Failure(
        "4097 px wide", 336004, _image(to_base64(solid((1, 2, 3), (4097, 15)))), 413, "4097 px"
    ),
    Failure("white space alone", 336005, _image("  \n"), 415),
    Failure("a base64 text that is no image", 336005, _image("QUJD"), 415),
    *(
        Failure(
            f"a {kind} file",
            336005,
            _image(to_base64(solid((1, 2, 3), kind=kind))),
            415,
            "not a jpg",
        )
        for kind in ("GIF", "WEBP", "TIFF", "JPEG2000", "PPM", "ICO", "PDF")
    ),
    *(
        Failure(name, 336005, _image(to_base64((CASES / name).read_bytes())), 415, "jpg: the ")
        for name in (
            "damage_4096_missing.jpg",
            "damage_4096_zeros.jpg",
            "damage_first_half_missing.jpg",
            "progressive_first_scan_only.jpg",
            "restart_interval_missing.jpg",
            "truncated_30_with_eoi.jpg",
            "truncated_60_with_eoi.jpg",
        )
    ),
    *(
        Failure(f"half a {kind}", 336005, _image(to_base64(data[: len(data) // 2])), 415)
        for kind, data in (("png", PNG), ("jpg", JPEG), ("bmp", BMP))
    ),
]

ELSEWHERE = {
    336000: "tests/api/test_unavailable.py",
    336100: "tests/api/test_unavailable.py",
    337000: "tests/unit/test_small_parts.py",
}
"""Codes that take a server of their own to provoke."""


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.fault)
class TestEachFailure:
    """Every row against the two ways of answering."""

    def test_answers_200_with_the_documented_body(self, server: Server, failure: Failure) -> None:
        answer = server.request(failure.method, failure.path, failure.body, failure.headers)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        assert list(answer.json) == ["error_code", "error_msg", "log_id"]
        assert answer.code == failure.code
        assert answer.json["error_msg"] == REGISTRY[failure.code].error_msg
        assert 0 < answer.json["log_id"] < 2**53
        assert failure.detail in answer.detail
        assert answer.detail.isascii()
        assert server.log_line(answer.json["log_id"])["detail"] == answer.detail

    def test_answers_its_status_in_rest(self, rest_server: Server, failure: Failure) -> None:
        answer = rest_server.request(failure.method, failure.path, failure.body, failure.headers)
        assert (answer.status, answer.code) == (failure.status, failure.code)
        assert list(answer.json) == ["error_code", "error_msg", "log_id", "error_detail"]
        assert answer.json["error_detail"] == answer.detail


def test_every_documented_code_has_a_test() -> None:
    covered = {failure.code for failure in FAILURES} | set(ELSEWHERE)
    assert covered == set(REGISTRY)


def test_error_text_is_not_escaped(server: Server) -> None:
    assert "JSON不合法".encode() in server.classify("colours", b"x").body


def test_detail_never_repeats_the_image(server: Server) -> None:
    marker = "SECRETSECRET!"
    answer = server.classify("colours", {"image": marker})
    assert "SECRET" not in answer.detail
    assert "SECRET" not in server.log_text()


def test_wrong_method_names_the_right_one(rest_server: Server) -> None:
    answer = rest_server.request("GET", "/colours/ImageClassification")
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/colours", "/colours/", "/a/b/c", "//nothing", "/%ff"]
)
def test_other_paths_answer_404_in_json(server: Server, path: str) -> None:
    answer = server.request("GET", path)
    assert (answer.status, answer.code) == (404, 336001)


def test_head_and_options_answer_as_http_has_it(server: Server) -> None:
    head = server.request("HEAD", "/colours/ImageClassification")
    assert (head.status, head.body) == (405, b"")
    options = server.request("OPTIONS", "/colours/ImageClassification")
    assert options.status == 200
    assert "POST" in options.headers["Allow"]


def test_unreadable_http_is_answered_in_json(server: Server) -> None:
    answer = server.request("GET", "/" + "x" * 9000)
    assert (answer.status, answer.code) == (414, 336001)
    assert "LimitRequestLine" in answer.detail


def test_large_refused_body_leaves_the_answer_readable(server: Server) -> None:
    body = b"x" * (20 * 2**20)
    answer = server.request("POST", "/nobody/ImageClassification", body)
    assert answer.code == 336001


def test_photo_on_the_edge_of_the_limits_is_answered(server: Server) -> None:
    for size in ((15, 15), (4096, 15), (15, 4096)):
        answer = server.classify("colours", {"image": to_base64(solid((250, 9, 9), size))})
        assert answer.json["results"][0]["name"] == "red"


def test_exactly_4194304_characters_are_accepted(server: Server) -> None:
    photo = (PHOTOS / "coffee.jpg").read_bytes()
    padded = photo + b"\0" * (LIMIT // 4 * 3 - len(photo))
    text = to_base64(padded)
    assert len(text) == LIMIT
    assert server.classify("colours", {"image": text}).code == 0
    wrapped = "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    assert server.classify("colours", {"image": wrapped}).code == 0
