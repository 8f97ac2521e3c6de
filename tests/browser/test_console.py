"""The console in a real browser: on a desktop and on a phone, in both languages."""

import base64
import csv
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.support.images import GREEN, PHOTOS, WHITE, solid
from tests.support.packages import build_colour_package, build_slow_with_white_package
from tests.support.proxies import PREFIX, Nginx
from tests.support.server import Server
from tests.support.tools import find_program, import_package
from tests.support.waiting import wait_until
from tests.support.website import website

CHROMIUM = os.environ.get("CHROMIUM") or find_program("chromium")
playwright_api = import_package("playwright.sync_api")
axe_api = import_package("axe_playwright_python.sync_playwright")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 375, "height": 740}, "has_touch": True, "is_mobile": True}
LOOKS = [
    pytest.param((size, language), id=f"{name}-{language}")
    for name, size in (("desktop", DESKTOP), ("phone", PHONE))
    for language in ("en-US", "zh-CN")
]
DARK = DESKTOP | {"color_scheme": "dark"}
SHOTS = os.environ.get("SCREENSHOTS")
OCCUPIED_S = 2.0
DONE = "[data-state=done]"
TIMEOUT_MS = 60_000
"""A safety net; Playwright's own are too short for a busy machine."""

expect = playwright_api.expect
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, timeout=TIMEOUT_MS
        )
        yield running
        running.close()


class Watched:
    """A page whose console errors and requests are recorded."""

    def __init__(
        self, browser: Any, server: Server, look: tuple[dict[str, Any], str], base: str = ""
    ) -> None:
        size, self.language = look
        self.base = base or f"http://127.0.0.1:{server.port}"
        self.context = browser.new_context(
            **size, locale=self.language, ignore_https_errors=True, reduced_motion="reduce"
        )
        self.context.set_default_timeout(TIMEOUT_MS)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requested: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requested.append(request.url))

    def _note(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(f"{message.text} {message.location}")

    def open(self, path: str = "/") -> None:
        self.page.goto(self.base + path)
        self.page.wait_for_load_state("networkidle")

    def open_try(self, name: str) -> None:
        """Go from the list of models over the page of one to the form, by their links."""
        self.page.click("#to-models")
        self.page.click(f"#list a[href$='/{name}']")
        self.page.click("#model .button.main")
        expect(self.page.locator("#name")).to_have_value(name)

    def choose(self, *paths: Path) -> None:
        """Choose pictures and wait for their answers."""
        before = self.page.locator(DONE).count()
        self.page.set_input_files("#files", [str(path) for path in paths])
        self.expect_done(before + len(paths))

    def expect_done(self, count: int) -> None:
        """Wait until so many pictures are answered, and no other waits."""
        expect(self.page.locator(DONE)).to_have_count(count)
        expect(self.page.locator(f"[data-state]:not({DONE})")).to_have_count(0)

    def shoot(self, name: str) -> None:
        if SHOTS:
            width = self.page.viewport_size["width"]
            if self.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches"):
                name += "-dark"
            self.page.screenshot(path=f"{SHOTS}/{name}-{width}-{self.language}.png", full_page=True)

    def check(self) -> None:
        """Check: no error, no request elsewhere, nothing wider than the screen, accessible."""
        assert self.errors == []
        assert {
            url for url in self.requested if not url.startswith((f"{self.base}/", "blob:"))
        } == set()
        # Not innerWidth: on a phone it grows with the page.
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert width <= self.page.viewport_size["width"]
        # axe's own call, as the page's Content-Security-Policy allows no injected script.
        found = axe_api.Axe().run(self.page)
        problems = found.response["violations"]
        assert problems == [], [(p["id"], [n["html"] for n in p["nodes"]]) for p in problems]


@pytest.fixture(params=LOOKS)
def opened(request: pytest.FixtureRequest, browser: Any, demo_server: Server) -> Iterator[Watched]:
    watched = Watched(browser, demo_server, request.param)
    yield watched
    watched.context.close()


def test_photos_are_classified_and_errors_explained(opened: Watched, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((PHOTOS / "coffee.jpg").read_bytes()[:2000])
    opened.open()
    page, is_chinese = opened.page, opened.language == "zh-CN"
    expect(page.locator("#samples img")).to_have_count(3)
    expect(page.locator("#server")).to_contain_text("imagenet 1 · torchscript · cpu")
    opened.shoot("empty")
    opened.check()
    page.click(".sample >> nth=0")
    opened.expect_done(1)
    expect(page.locator("article")).to_contain_text("Egyptian cat")
    opened.choose(PHOTOS / "coffee.jpg", PHOTOS / "chelsea.png")
    opened.choose(broken)
    articles = page.locator("article")
    # The newest first, and in each the order in which they were chosen.
    names = [article.get_attribute("aria-label") for article in articles.all()]
    assert names == ["broken.jpg", "coffee.jpg", "chelsea.png", "sample-1.jpeg"]
    wrong, coffee = articles.nth(0).inner_text(), articles.nth(1)
    assert "336005" in wrong
    assert "图片解码失败" in wrong
    assert ("处理办法" in wrong) == is_chinese
    assert coffee.locator(".classes li").count() == 5
    first = coffee.locator(".classes li").nth(0).inner_text().split("\n")
    assert (first[0], first[1][-1], first[2][:2]) == ("espresso", "%", "0.")
    assert float(first[1][:-1]) == pytest.approx(float(first[2]) * 100, abs=0.01)
    coffee.locator("[data-key=input-0]").click()
    for side in ("naturalWidth", "naturalHeight"):
        expect(coffee.locator("img")).to_have_js_property(side, 224)
    coffee.locator("[data-key=details-0]").click()
    expect(coffee.locator(".details")).to_contain_text("infer")
    assert '"log_id": ' in coffee.locator("pre").nth(0).inner_text()
    assert "x-log-id: " in coffee.locator("pre").nth(1).inner_text()
    opened.shoot("answers")
    opened.check()


@pytest.mark.parametrize("opened", [LOOKS[0], LOOKS[-1]], indirect=True)
def test_many_pictures_are_tiles_in_the_order_in_which_they_were_chosen(
    opened: Watched, tmp_path: Path
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    opened.open()
    page = opened.page
    photos = sorted(PHOTOS.glob("[cr]*.*"))
    opened.choose(*photos, text)
    tiles = page.locator(".tile")
    files = [tile.locator(".tile-file").inner_text() for tile in tiles.all()]
    assert files == [photo.name for photo in (*photos, text)]
    assert page.locator(".tile.failed").count() == 1
    opened.shoot("tiles")
    opened.check()
    tiles.nth(0).locator("button").click()
    dialog = page.locator("dialog")
    expect(dialog.locator("article")).to_have_attribute("aria-label", files[0])
    opened.shoot("dialog")
    opened.check()
    page.keyboard.press("ArrowRight")
    expect(dialog.locator("article")).to_have_attribute("aria-label", files[1])
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


@pytest.mark.parametrize("opened", [LOOKS[0], LOOKS[-1]], indirect=True)
def test_heat_map_explains_a_class_over_the_photo(opened: Watched, tmp_path: Path) -> None:
    upright = Image.open(PHOTOS / "chelsea.png").rotate(90, expand=True)
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn clockwise, so that it is shown upright
    photo = tmp_path / "turned.jpg"
    upright.convert("RGB").save(photo, exif=turned)
    opened.open()
    page = opened.page
    opened.choose(photo)
    first, second = page.locator(".classes .label").all_inner_texts()[:2]
    page.click("[data-key=heat-0]")
    heat = page.locator("canvas.heat")
    expect(heat).to_have_attribute("aria-label", re.compile(re.escape(first)))
    assert heat.bounding_box() == page.locator("article img").bounding_box()
    assert upright.width < upright.height  # as stored
    row, column = page.evaluate(_HOTTEST)
    assert 0.2 < row < 0.95  # the face of the cat, which is in the middle
    assert 0.2 < column < 0.8
    page.focus("input[type=range]")
    page.keyboard.press("Home")
    expect(heat).to_have_css("opacity", "0")
    page.select_option(".heat-field select", second)
    expect(heat).to_have_attribute("aria-label", re.compile(re.escape(second)))
    page.focus("input[type=range]")
    page.keyboard.press("End")
    expect(heat).to_have_css("opacity", "1")
    opened.shoot("heat")
    opened.check()
    page.click("[data-key=heat-0]")
    expect(heat).to_have_count(0)


_HOTTEST = """() => {
  const canvas = document.querySelector("canvas.heat");
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  let best = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i + 1] > data[best + 1]) best = i;
  const pixel = best / 4;
  return [Math.floor(pixel / width) / height, (pixel % width) / width];
}"""


def test_language_can_be_switched_and_is_remembered(opened: Watched, tmp_path: Path) -> None:
    opened.open()
    before = opened.page.locator("html").get_attribute("lang")
    opened.page.click("#language")
    after = opened.page.locator("html").get_attribute("lang")
    assert {before, after} == {"en", "zh-CN"}
    opened.open()
    assert opened.page.locator("html").get_attribute("lang") == after
    opened.check()


def test_page_of_a_model_shows_its_labels_preprocessing_and_golden_check(opened: Watched) -> None:
    opened.open("/#/model/imagenet")
    assert opened.page.locator(".labels li").count() == 1000
    text = opened.page.locator("#model").inner_text()
    assert "goldfish" in text
    assert "center_crop" in text
    assert "fraction_of_shortest_side 0.875" in text
    assert re.search(r"✓ (passed: 3 samples|通过：3 个样本).* 0\.00\d+.*0\.005", text)
    expect(opened.page.locator(".versions li")).to_have_count(1)
    assert "classifyd evaluate imagenet FOLDER" in opened.page.locator("#model").inner_text()
    opened.shoot("model")
    opened.page.fill("#filter", "fish")
    shown = opened.page.locator(".labels li:visible").all_inner_texts()
    assert "goldfish" in shown
    assert all("fish" in label for label in shown)
    opened.check()


def test_description_of_the_api_is_in_the_language_of_the_console(opened: Watched) -> None:
    own, other = ("zh-CN", "en") if opened.language == "zh-CN" else ("en", "zh-CN")
    opened.open("/docs")
    _expect_language(opened.page, own)
    opened.shoot("docs")
    opened.check()
    opened.page.click("header nav[aria-label] a[lang]")
    _expect_language(opened.page, other)
    opened.open("/docs")  # the choice is kept here …
    opened.page.wait_for_url("**lang=*")
    _expect_language(opened.page, other)
    opened.open()  # … and in the console
    expect(opened.page.locator("html")).to_have_attribute("lang", other)
    opened.check()


def _expect_language(page: Any, language: str) -> None:
    """Wait until the description of the API is in this language."""
    expect(page.locator("html")).to_have_attribute("lang", language)
    main = expect(page.locator("main"))
    (main.to_contain_text if language == "zh-CN" else main.not_to_contain_text)("请求体")


def test_dark_mode_has_enough_contrast(browser: Any, demo_server: Server) -> None:
    watched = Watched(browser, demo_server, (DARK, "en-US"))
    watched.open()
    watched.choose(PHOTOS / "coffee.jpg")
    watched.shoot("answers")
    watched.check()
    watched.open("/#/model/imagenet")
    watched.check()
    watched.open("/docs")
    watched.shoot("docs")
    watched.check()
    watched.context.close()


@pytest.fixture
def desktop(browser: Any, demo_server: Server) -> Iterator[Watched]:
    watched = Watched(browser, demo_server, (DESKTOP, "en-US"))
    watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield watched
    watched.context.close()


def test_console_can_be_used_by_keyboard_alone(desktop: Watched) -> None:
    desktop.open()
    page = desktop.page
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert reached >= {"name", "top-num", "files", "language", "tab-results"}
    desktop.open()
    with page.expect_file_chooser() as asked:
        _tab_to(page, "files")  # the browser must be watching before the key is pressed
        page.keyboard.press("Enter")
    asked.value.set_files(PHOTOS / "coffee.jpg")
    expect(page.locator("article .classes li")).to_have_count(5)
    _tab_to(page, "top-num")
    page.keyboard.press("ArrowDown")
    expect(page.locator("article .classes li")).to_have_count(4)
    _tab_to(page, "tab-results")
    page.keyboard.press("ArrowRight")
    _tab_to(page, "client")
    page.keyboard.type("Python")
    _tab_to(page, "copy")
    page.keyboard.press("Enter")
    expect(page.locator(".copied")).to_have_text("Copied.")
    assert "TOP_NUM = 4" in page.evaluate("navigator.clipboard.readText()")


def _tab_to(page: Any, identity: str) -> None:
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == identity:
            return
    raise AssertionError(f"Tab does not lead to {identity}")


def test_photo_can_be_dropped_and_pasted(desktop: Watched) -> None:
    desktop.open()
    for event in ("drop", "paste"):
        desktop.page.evaluate(_SEND, [event, list(solid((10, 250, 10), kind="PNG"))])
    desktop.expect_done(2)
    assert desktop.page.locator("article .classes").count() == 2
    desktop.check()


_SEND = """([kind, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "green.png", { type: "image/png" }));
  const names = { drop: "dataTransfer", paste: "clipboardData" };
  const types = { drop: DragEvent, paste: ClipboardEvent };
  window.dispatchEvent(new types[kind](kind, { [names[kind]]: data, cancelable: true }));
}"""


LANGUAGES = ["curl", "Python", "Java", "C#", "JavaScript", "Go", "PHP"]


def _copy_program(page: Any, language: str, folder: Path) -> str:
    """Copy a program as a person does, save it as the page says, and return what runs it."""
    page.click("#tab-code")
    page.select_option("#client", language)
    said = page.locator("#how-to-run")
    extension = {"curl": "sh", "Python": "py", "C#": "cs", "JavaScript": "mjs"}.get(
        language, language.lower()
    )
    expect(said).to_contain_text(f".{extension} ")
    page.click("#copy")
    expect(page.locator("#copy-code .copied")).to_have_text("Copied.")
    found = re.fullmatch(r"Save it as (\S+) beside (\S+), then run: (.*)", said.inner_text())
    assert found is not None
    file, picture, command = found.groups()
    assert (folder / picture).exists()
    text = page.evaluate("navigator.clipboard.readText()")
    (folder / file).write_text(text, encoding="utf-8")
    return str(command)


def _run_program(command: str, folder: Path) -> str:
    for program in re.findall(r"(?:^|&& )(\S+)", command):
        find_program(program)
    # This Python, isolated from the packages of this project.
    command = re.sub("^python3 ", f"{sys.executable} -I ", command)
    ended = subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("language", LANGUAGES)
def test_copied_code_sample_runs(desktop: Watched, tmp_path: Path, language: str) -> None:
    picture = Path(shutil.copy(PHOTOS / "coffee.jpg", tmp_path))
    desktop.open()
    assert desktop.page.locator("#client option").all_inner_texts() == LANGUAGES
    desktop.page.fill("#top-num", "3")
    desktop.choose(picture)
    printed = _run_program(_copy_program(desktop.page, language, tmp_path), tmp_path)
    # Three classes and no more: what was asked for on the page.
    assert "espresso" in printed
    assert "consomme" in printed
    assert "chocolate sauce" not in printed
    desktop.check()


class Proxied(NamedTuple):
    """A server with its weights folder, its address under a prefix, and an access token."""

    server: Server
    weights: Path
    base: str
    token: str


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """A server with access tokens and a single place, behind nginx."""
    from app.access_tokens import add_token

    weights, state = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("state")
    build_colour_package(weights, "colours", ["red", "green", "blue"])
    build_colour_package(weights, "farben", ["红色", "绿色", "蓝色"])
    build_slow_with_white_package(weights, "slow", OCCUPIED_S)
    with (
        Server(weights, state, access_tokens="on", max_in_flight=1) as server,
        Nginx(state, server.port, with_prefix=True) as proxy,
    ):
        token = add_token(state / "tokens.json", "desk")
        yield Proxied(server, weights, f"https://127.0.0.1:{proxy.port}{PREFIX}", token)


@pytest.fixture
def locked(browser: Any, proxied: Proxied) -> Iterator[Watched]:
    server, base = proxied.server, proxied.base
    watched = Watched(browser, server, (DESKTOP, "en-US"), base)
    watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
    watched.page.goto(base)  # without the slash, which nginx adds
    watched.page.wait_for_url(f"{base}/")
    watched.page.wait_for_load_state("networkidle")
    watched.requested.clear()
    yield watched
    watched.context.close()


def _enter(locked: Watched, token: str) -> None:
    locked.page.fill("#token", token)
    locked.page.press("#token", "Enter")


def test_access_token_is_requested_and_used_under_a_prefix(
    locked: Watched, proxied: Proxied, tmp_path: Path
) -> None:
    server, _, base, token = proxied
    page, said = locked.page, locked.page.locator("#status")
    picture = tmp_path / "green.png"
    picture.write_bytes(solid((10, 250, 10)))
    expect(said).to_contain_text("requires an access token")
    page.set_input_files("#files", picture)
    expect(page.locator("#server")).to_have_text("Ready")  # and no name of a model
    assert page.locator("article").count() == 0
    locked.shoot("token")
    locked.check()
    _enter(locked, "wrong")
    expect(said).to_contain_text("does not accept this access token: unknown access token")
    expect(page.locator("#token")).to_have_attribute("aria-invalid", "true")
    locked.errors.clear()  # the browser notes the 403 of the list of models
    locked.check()
    _enter(locked, token)
    expect(page.locator("#name option:text-is('farben')")).to_have_count(1)
    expect(page.locator("#server")).to_contain_text("farben 1")
    expect(page.locator("#samples img")).to_have_count(3)
    locked.open_try("farben")
    locked.choose(picture)
    expect(page.locator("article")).to_contain_text("绿色")
    page.click("[data-key=input-0]")
    expect(page.locator("article img.small")).to_have_js_property("complete", True)
    command = _copy_program(page, "Python", tmp_path)
    assert f"{base}/farben/ImageClassification" in page.locator("#code").inner_text()
    # The program would have to trust the certificate of the test's nginx.
    text = (tmp_path / "client.py").read_text(encoding="utf-8")
    (tmp_path / "client.py").write_text(text.replace(base, f"http://127.0.0.1:{server.port}"))
    assert "绿色" in _run_program(command, tmp_path)
    locked.shoot("prefix")
    page.click("#to-models")
    page.click("#list a[href$='/farben']")
    expect(page.locator("#model")).to_contain_text(f"{base}/farben/ImageClassification")
    expect(page.locator(".versions li")).to_have_count(1)
    locked.check()
    page.click("#to-docs")
    page.wait_for_url(f"{base}/docs?lang=en")
    locked.check()
    page.click("nav a[href='./']")
    page.wait_for_url(f"{base}/")
    locked.open("/docs")
    page.click("nav a[href='openapi.json']")
    page.wait_for_url(f"{base}/openapi.json")
    assert token not in server.log_text()


@contextmanager
def _occupied(server: Server, token: str) -> Iterator[None]:
    """Take the only place for OCCUPIED_S seconds."""
    body = json.dumps({"image": WHITE})
    lines = ["POST /slow/ImageClassification HTTP/1.1", "Host: server"]
    lines += [f"Authorization: Bearer {token}", f"Content-Length: {len(body)}", "", body]
    header = {"Authorization": f"Bearer {token}"}
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall("\r\n".join(lines).encode())
        wait_until(lambda: server.classify("colours", {}, **header).code == 336100, server)
        yield


def test_busy_server_is_asked_again_after_the_time_that_it_names(
    locked: Watched, proxied: Proxied, tmp_path: Path
) -> None:
    server, weights, _, token = proxied
    page = locked.page
    _enter(locked, token)
    expect(page.locator("#name option:text-is('farben')")).to_have_count(1)
    page.select_option("#name", "colours")
    pictures = []
    for number in range(12):
        pictures.append(tmp_path / f"{number:02}.png")
        pictures[-1].write_bytes(solid((250, 10, 10) if number % 2 else (10, 250, 10)))
    flying, most = 0, 0

    def note(step: int) -> Callable[[Any], None]:
        def count(request: Any) -> None:
            nonlocal flying, most
            flying += step * request.url.endswith("/ImageClassification")
            most = max(most, flying)

        return count

    page.on("request", note(1))
    page.on("requestfinished", note(-1))
    with _occupied(server, token):
        page.set_input_files("#files", [str(path) for path in pictures])
        expect(page.locator(".run-head")).to_contain_text("The server is busy. Retrying in 1 s")
    locked.expect_done(12)
    seen = [tile.inner_text() for tile in page.locator(".tile-class").all()]
    assert seen == ["green", "red"] * 6
    assert 1 < most <= 3
    # An open page follows the server: a model that is installed appears in it.
    build_colour_package(weights, "late", ["red", "green", "blue"])
    expect(page.locator("#name option:text-is('late')")).to_have_count(1)
    expect(page.locator("#name")).to_have_value("colours")


@pytest.fixture
def two_models(browser: Any, server: Server) -> Iterator[Watched]:
    """The console of a server with two models; it counts the object URLs of the page."""
    watched = Watched(browser, server, (DESKTOP, "en-US"))
    watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
    watched.page.add_init_script(_COUNT_URLS)
    yield watched
    watched.context.close()


_COUNT_URLS = """
const [create, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
window.urls = new Set();
URL.createObjectURL = (blob) => { const url = create(blob); urls.add(url); return url; };
URL.revokeObjectURL = (url) => { urls.delete(url); revoke(url); };
"""


def test_two_models_are_compared_and_asked_again(two_models: Watched, tmp_path: Path) -> None:
    picture = tmp_path / "=green.png"
    picture.write_bytes(solid((10, 250, 10)))
    two_models.open()
    page = two_models.page
    two_models.choose(picture)
    classes = page.locator("article .classes")
    expect(classes.locator("li")).to_have_count(3)
    page.fill("#top-num", "2")
    page.press("#top-num", "Enter")
    expect(classes.locator("li")).to_have_count(2)
    page.select_option("#beside", "farben")
    expect(classes).to_have_count(2)
    expect(classes.nth(1)).to_contain_text("绿色")
    two_models.shoot("two-models")
    two_models.check()
    with page.expect_download() as download:
        page.click("text=CSV")
    content = Path(download.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(content.splitlines()))
    assert [(row["file"], row["model"], row["version"], row["class_1"]) for row in rows] == [
        ("'=green.png", "colours", "1", "green"),
        ("'=green.png", "farben", "1", "绿色"),
    ]
    assert rows[0]["score_1"] == page.locator(".score").nth(0).get_attribute("title")
    assert "score_3" not in rows[0]


def test_what_is_removed_frees_its_memory(two_models: Watched, tmp_path: Path) -> None:
    two_models.open()
    page = two_models.page
    expect(page.locator("#samples img")).to_have_count(3)
    two_models.choose(*(PHOTOS / name for name in ("coffee.jpg", "chelsea.png")))
    page.locator("[data-key=input-0]").nth(0).click()
    expect(page.locator("article img.small")).to_have_js_property("complete", True)
    assert page.evaluate("urls.size") == 3 + 2 + 1
    page.click("#clear")
    assert page.locator("article").count() == 0
    expect(page.locator("#empty")).to_be_visible()
    assert page.evaluate("urls.size") == 3


def test_copied_is_said_only_of_what_was_copied(two_models: Watched) -> None:
    two_models.open()
    page = two_models.page
    page.click(".sample >> nth=0")
    two_models.expect_done(1)
    page.click("[data-key=details-0]")
    copies, said = page.locator(".details .copy button"), page.locator(".details .copied")
    copies.nth(0).click()
    expect(said.nth(0)).to_have_text("Copied.")
    assert json.loads(page.evaluate("navigator.clipboard.readText()"))["results"][0]["name"]
    copies.nth(1).click()
    expect(said.nth(1)).to_have_text("Copied.")
    assert "server-timing: " in page.evaluate("navigator.clipboard.readText()")
    # As over http from another machine, where the browser has no navigator.clipboard.
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.click("#tab-code")
    page.click("#copy")
    expect(page.locator("#copy-code .copied")).to_have_text("Copied.")
    page.evaluate("document.execCommand = () => false")
    page.click("#copy")
    expect(page.locator("#copy-code .copied")).to_contain_text("press Ctrl+C")
    assert page.evaluate("getSelection().toString()").startswith("#!/bin/sh")
    two_models.check()


def test_pictures_that_the_server_refuses_are_converted_in_the_browser(
    two_models: Watched, tmp_path: Path
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1500, 1600, 3), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn clockwise
    large, webp = tmp_path / "large.jpg", tmp_path / "small.webp"
    Image.fromarray(noise).save(large, quality=99, exif=turned)
    Image.new("RGB", (4200, 100), (10, 250, 10)).save(webp)
    heic = tmp_path / "phone.heic"
    heic.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert large.stat().st_size > 3 * 1024 * 1024
    sent: list[bytes] = []
    two_models.open()
    page = two_models.page
    page.on("request", lambda request: _note_image(request, sent))
    two_models.choose(large, webp, heic)
    articles = page.locator("article")
    notes = [
        article.locator(".note").inner_text().replace("\u00a0", " ")
        for article in articles.all()[:2]
    ]
    assert re.fullmatch(
        r"Converted in the browser: 1500 × 1600 px, \d\.\d MB JPEG → 1500 × 1600 px, "
        r"[12]\.\d MB JPEG",
        notes[0],
    )
    assert re.fullmatch(
        r"Converted in the browser: 4200 × 100 px, .* WebP → 4096 × 98 px, .* JPEG", notes[1]
    )
    sizes = {Image.open(io.BytesIO(data)).size for data in sent}
    assert sizes == {(1500, 1600), (4096, 98)}  # upright, and within the limits
    assert max(map(len, sent)) <= 3 * 1024 * 1024
    expect(articles.nth(1)).to_contain_text("green")
    expect(articles.nth(2)).to_contain_text("This browser cannot read HEIC photos.")
    two_models.check()


def _note_image(request: Any, sent: list[bytes]) -> None:
    if request.url.endswith("/ImageClassification"):
        sent.append(base64.b64decode(request.post_data_json["image"]))


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The origin of another web site."""
    with website() as origin:
        yield origin


_CALL = """async ([url, image, token]) => {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  try {
    const asked = await fetch(url, { method: "POST", headers, body: JSON.stringify({ image }) });
    const answer = await asked.json();
    return [answer.results?.[0].name || answer.error_code, asked.headers.get("X-Model-Version")];
  } catch (error) {
    return [error.name, null];
  }
}"""


def test_only_pages_of_an_allowed_origin_may_call(
    browser: Any, colour_weights: Path, tmp_path: Path, elsewhere: str
) -> None:
    from app.access_tokens import add_token

    token = add_token(tmp_path / "tokens.json", "shop")
    page = browser.new_page()
    page.goto(elsewhere)

    def call(server: Server, given: str = token) -> object:
        url = f"http://127.0.0.1:{server.port}/colours/ImageClassification"
        return page.evaluate(_CALL, [url, GREEN, given])

    settings = {"access_tokens": "on"}
    with Server(colour_weights, tmp_path, cors_origins=elsewhere, **settings) as server:
        assert call(server) == ["green", "1"]
        # Without a valid token no answer tells which model there is.
        assert call(server, "wrong") == [337000, None]
    for others in ("off", "http://shop.example"):
        with Server(colour_weights, tmp_path, cors_origins=others, **settings) as server:
            assert call(server) == ["TypeError", None]
    page.close()
