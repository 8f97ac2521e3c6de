"""What the console asks the server for, without a browser."""

import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from app.api.console import sample_images
from app.api.translations import CHINESE
from app.errors import REGISTRY
from app.packages.manifest import LicenceSpec
from app.packages.package import load_package
from app.settings import PROJECT_ROOT
from tests.support.images import GREEN, PHOTOS, to_base64
from tests.support.packages import SIDE, build_colour_package
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


def test_models_are_described(server: Server, colour_weights: Path) -> None:
    models = {
        model["name"]: model for model in server.request("GET", "/console/models").json["models"]
    }
    assert models["farben"]["labels"] == ["红色", "绿色", "蓝色"]
    assert models["colours"]["input"]["height"] == SIDE
    manifest = json.loads((colour_weights / "colours" / "1" / "manifest.json").read_text())
    assert models["colours"]["preprocess"] == manifest["preprocess"]


def test_page_of_a_model_gets_its_versions_engines_and_training(
    server: Server, tmp_path: Path
) -> None:
    training = {"method": "linear", "held_out": {"photos": 40, "top1": 0.975}}
    for version in ("1", "2", "3"):
        manifest = build_colour_package(tmp_path, "trained", ["r", "g", "b"], version)
        manifest = manifest / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"training": training}))
    (tmp_path / "trained" / "ACTIVE").write_text("2\n1\n")
    with Server(tmp_path, tmp_path, engine="auto") as running:
        found = running.request("GET", "/console/models/trained").json
        assert found["versions"] == [
            {"version": "1", "served": False, "previous": True},
            {"version": "2", "served": True, "previous": False},
            {"version": "3", "served": False, "previous": False},
        ]
        assert found["training"] == training
        assert found["engines"]["engine"] in {
            row["engine"] for row in found["engines"]["measurements"]
        }
    found = server.request("GET", "/console/models/colours").json
    assert (found["engines"], found["training"]) == (None, None)
    assert server.request("GET", "/console/models/nobody").status == 404


def test_sample_images_are_the_golden_samples_or_else_photos(
    server: Server, demo_server: Server
) -> None:
    golden = sorted((PROJECT_ROOT / "weights" / "imagenet").glob("*/golden-*.jpg"))
    photos = sorted((PROJECT_ROOT / "app" / "packages" / "photos").glob("*.jpg"))
    for running, name, expected in ((demo_server, "imagenet", golden), (server, "farben", photos)):
        for index, path in enumerate(expected):
            answer = running.request("GET", f"/console/samples/{name}/{index}")
            assert answer.headers["Content-Type"] == "image/jpeg"
            assert answer.body == path.read_bytes()
        assert running.request("GET", f"/console/samples/{name}/{len(expected)}").status == 404
        described = running.request("GET", "/console/models").json["models"]
        assert {model["samples"] for model in described} == {len(expected)}


def test_images_of_a_sealed_package_stay_its_publishers() -> None:
    [folder] = (PROJECT_ROOT / "weights" / "imagenet").glob("[0-9]*")
    package = load_package(folder)
    licence = LicenceSpec("shop@example.com", "A" * 43 + "=")
    sealed = replace(package, manifest=replace(package.manifest, licence=licence))
    assert {path.parent for path in sample_images(package)} == {folder}
    assert {path.parent.name for path in sample_images(sealed)} == {"photos"}


def test_status_line_counts_the_requests_of_all_workers(
    colour_weights: Path, tmp_path: Path
) -> None:
    with Server(colour_weights, tmp_path, workers=2) as running:
        for _ in range(5):
            running.classify("colours", {"image": GREEN})
        running.classify("colours", {})
        status = running.request("GET", "/console/status").json
        assert (status["ready"], status["requests"]) == (True, 6)
        assert set(status["serving"]) == {"colours", "farben"}
        running.stop()
        assert "/console/status" not in running.log_text()


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
        for path in ("models", "models/colours", "samples/colours/0", "status"):
            assert server.request("GET", f"/console/{path}").status == 404
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
