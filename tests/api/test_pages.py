"""What the console asks the server for, without a browser."""

import html
import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from app.api.translations import CHINESE
from app.errors import REGISTRY
from app.settings import PROJECT_ROOT
from tests.support.images import GREEN, PHOTOS, to_base64
from tests.support.packages import SIDE
from tests.support.server import Server

CONSOLE = PROJECT_ROOT / "app" / "console"


def test_preview_is_the_picture_that_the_model_sees(server: Server, demo_server: Server) -> None:
    body = ('{"image":"' + GREEN + '"}').encode()
    answer = server.request("POST", "/console/preview/colours", body)
    assert answer.headers["Content-Type"] == "image/png"
    pixels = np.asarray(Image.open(io.BytesIO(answer.body)))
    assert pixels.shape == (SIDE, SIDE, 3)
    assert np.unique(pixels.reshape(-1, 3), axis=0).tolist() == [[10, 250, 10]]
    photo = to_base64((PHOTOS / "coffee.jpg").read_bytes())
    seen = demo_server.request(
        "POST", "/console/preview/imagenet", ('{"image":"' + photo + '"}').encode()
    )
    assert Image.open(io.BytesIO(seen.body)).size == (224, 224)


def test_preview_of_what_is_no_picture_is_the_documented_error(server: Server) -> None:
    answer = server.request("POST", "/console/preview/colours", b'{"image":"QUFBQQ=="}')
    assert (answer.status, answer.code) == (415, 336005)
    assert server.request("POST", "/console/preview/nobody", b"{}").status == 404


def test_models_are_described(server: Server) -> None:
    models = {
        model["name"]: model for model in server.request("GET", "/console/models").json["models"]
    }
    assert models["farben"]["labels"] == ["红色", "绿色", "蓝色"]
    assert models["colours"]["input"]["height"] == SIDE
    assert models["colours"]["preprocess"][0] == {"step": "Color", "order": "RGB"}


def test_page_and_its_parts_come_from_this_server_alone(server: Server) -> None:
    page = server.request("GET", "/")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for path in (CONSOLE / "static").rglob("*.*"):
        name = path.relative_to(CONSOLE).as_posix()
        assert server.request("GET", f"/{name}").body == path.read_bytes()
        if path.suffix in {".css", ".js"}:
            assert "//" not in path.read_text(encoding="utf-8").replace("// ", "").replace(
                r"http:\/\/127", ""
            )


def test_every_code_is_explained_in_both_languages() -> None:
    texts = (CONSOLE / "static" / "texts.js").read_text(encoding="utf-8")
    for code in REGISTRY:
        assert texts.count(f"\n      {code}: [") == 2


def test_console_can_be_switched_off(colour_weights: Path, tmp_path: Path) -> None:
    with Server(colour_weights, tmp_path, console="off") as server:
        assert server.request("GET", "/").status == 404
        assert server.request("GET", "/console/models").status == 404
        assert server.request("POST", "/console/preview/colours", b"{}").status in {404, 405}
        assert server.request("GET", "/docs").status == 200


def test_every_answer_names_its_log_id_in_a_header(server: Server) -> None:
    answer = server.classify("colours", {"image": GREEN})
    assert answer.headers["X-Log-Id"] == str(answer.json["log_id"])
    failed = server.classify("colours", {})
    assert failed.headers["X-Log-Id"] == str(failed.json["log_id"])


def _texts(value: object) -> set[str]:
    """Every summary and description of a document, but those put together from others."""
    if isinstance(value, list):
        return {text for item in value for text in _texts(item)}
    if not isinstance(value, dict):
        return set()
    own = {value[key] for key in ("summary", "description") if isinstance(value.get(key), str)}
    return {text for item in value.values() for text in _texts(item)} | {
        text for text in own if not re.match(r"\d{6}: ", text)
    }


def test_every_text_of_the_description_is_there_in_chinese(
    server: Server, rest_server: Server
) -> None:
    templates = "".join(
        (CONSOLE / "templates" / name).read_text(encoding="utf-8")
        for name in ("docs.html", "schemas.html")
    )
    texts = set(re.findall(r'"([^"]+)" \| translate', templates)) | {"yes", "no"}
    for running in (server, rest_server):
        texts |= _texts(running.request("GET", "/openapi.json").json)
    assert {text for text in texts if text and text not in CHINESE} == set()
    assert {text for text in CHINESE if text not in texts} <= _TYPES | _EXAMPLES


_TYPES = {"array", "boolean", "integer", "null", "number", "object", "string"}
_EXAMPLES = {"red square", "two images", "a picture of one colour", "result"}


def test_page_of_the_description_is_in_the_language_asked_for(server: Server) -> None:
    def title(path: str, accepted: str) -> str:
        answer = server.request("GET", path, headers={"Accept-Language": accepted})
        assert answer.headers["Vary"] == "Accept-Language"
        found = re.search('<html lang="(.*)">', answer.body.decode())
        assert found
        return found[1]

    assert title("/docs", "zh-CN,zh;q=0.9,en;q=0.8") == "zh-CN"
    assert title("/docs", "de,en;q=0.5") == "en"
    assert title("/docs", "") == "en"
    assert title("/docs?lang=zh", "en") == "zh-CN"
    assert title("/docs?lang=xx", "en") == "en"


def test_chinese_page_says_nothing_in_english_that_has_chinese_words(server: Server) -> None:
    page = server.request("GET", "/docs?lang=zh").body.decode()
    shown = html.unescape(re.sub(r"<[^>]+>", "\n", page))
    left = {text for text in CHINESE if len(text) > 12 and text in shown}
    assert left == set()


def test_errors_are_described_once_with_their_status(server: Server, rest_server: Server) -> None:
    for running in (server, rest_server):
        page = running.request("GET", "/docs").body.decode()
        rows = re.findall(r"<code>(\d{6})</code></th><td>(.*?)</td><td>(\d+)</td>", page)
        assert {int(code) for code, _, _ in rows} == set(REGISTRY)
        for code, message, status in rows:
            assert message == REGISTRY[int(code)].error_msg
            assert (int(status) == 200) == (running is server)
