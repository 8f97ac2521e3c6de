"""What the console asks the server for, without a browser."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

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
