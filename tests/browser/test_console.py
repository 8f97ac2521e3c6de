"""The console in a real browser: on a desktop and on a phone, in both languages."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.images import GREEN, PHOTOS, solid
from tests.support.proxies import PREFIX, Nginx
from tests.support.server import Server
from tests.support.tools import find_program, import_package
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
TIMEOUT_MS = 60_000
"""A safety net; Playwright's own are too short for a busy machine."""

playwright_api.expect.set_options(timeout=TIMEOUT_MS)


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
        self.context = browser.new_context(**size, locale=self.language, ignore_https_errors=True)
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
        """Go from the page of a model to the form by its button."""
        self.page.click(f"#models a[href$='/{name}']")
        self.page.click("#model .button")
        playwright_api.expect(self.page.locator("#name")).to_have_value(name)

    def choose(self, *paths: Path) -> None:
        """Choose pictures and wait for their answers."""
        before = self.page.locator("article").count()
        self.page.set_input_files("#files", [str(path) for path in paths])
        playwright_api.expect(self.page.locator("article")).to_have_count(before + len(paths))
        self.page.wait_for_load_state("networkidle")

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


def _large(folder: Path) -> Path:
    path = folder / "large.jpg"
    Image.new("RGB", (4096, 4096), (120, 160, 90)).save(path)
    return path


def test_photos_are_classified_and_errors_explained(opened: Watched, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((PHOTOS / "coffee.jpg").read_bytes()[:2000])
    opened.open()
    opened.shoot("empty")
    opened.choose(PHOTOS / "coffee.jpg", PHOTOS / "chelsea.png")
    opened.choose(_large(tmp_path))
    opened.choose(broken)
    articles = opened.page.locator("article")
    assert "espresso" in articles.nth(3).inner_text()
    assert articles.nth(3).locator(".classes li").count() == 5
    assert articles.nth(3).locator("img").count() == 2
    assert "infer" in articles.nth(3).inner_text()
    assert "log_id" in articles.nth(1).inner_text()
    wrong = articles.nth(0).inner_text()
    assert "336005" in wrong
    assert "图片解码失败" in wrong
    assert ("模型" in opened.page.locator("#results").inner_text()) == (opened.language == "zh-CN")
    seen = articles.nth(3).locator("img").nth(1)
    for side in ("naturalWidth", "naturalHeight"):
        playwright_api.expect(seen).to_have_js_property(side, 224)
    opened.shoot("answers")
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    opened.choose(text)
    playwright_api.expect(articles.nth(0).locator("img")).to_have_count(0)
    assert "336005" in articles.nth(0).inner_text()
    opened.check()


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
    assert "CenterCropFraction" in text
    assert re.search(r"✓ (passed: 3 samples|通过：3 个样本).* 0\.00\d+.*0\.005", text)
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
    playwright_api.expect(opened.page.locator("html")).to_have_attribute("lang", other)
    opened.check()


def _expect_language(page: Any, language: str) -> None:
    """Wait until the description of the API is in this language."""
    playwright_api.expect(page.locator("html")).to_have_attribute("lang", language)
    main = playwright_api.expect(page.locator("main"))
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
    assert reached >= {"name", "top-num", "files", "client", "copy", "language", "code"}
    desktop.open()
    _tab_to(page, "top-num")
    page.keyboard.press("ArrowDown")
    with page.expect_file_chooser() as asked:
        _tab_to(page, "files")  # the browser must be watching before the key is pressed
        page.keyboard.press("Enter")
    asked.value.set_files(PHOTOS / "coffee.jpg")
    playwright_api.expect(page.locator("article .classes li")).to_have_count(4)
    _tab_to(page, "client")
    page.keyboard.type("Python")
    _tab_to(page, "copy")
    page.keyboard.press("Enter")
    playwright_api.expect(page.locator("#copied")).to_have_text("Copied.")
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
    playwright_api.expect(desktop.page.locator("article")).to_have_count(2)
    desktop.page.wait_for_load_state("networkidle")
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
    page.select_option("#client", language)
    said = page.locator("#how-to-run")
    extension = {"curl": "sh", "Python": "py", "C#": "cs", "JavaScript": "mjs"}.get(
        language, language.lower()
    )
    playwright_api.expect(said).to_contain_text(f".{extension} ")
    page.click("#copy")
    playwright_api.expect(page.locator("#copied")).to_have_text("Copied.")
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


def test_access_token_is_requested_and_used(
    browser: Any, colour_weights: Path, tmp_path: Path
) -> None:
    from app.access_tokens import add_token

    picture = tmp_path / "green.png"
    picture.write_bytes(solid((10, 250, 10)))
    with Server(colour_weights, tmp_path, access_tokens="on") as server:
        token = add_token(tmp_path / "tokens.json", "desk")
        watched = Watched(browser, server, (DESKTOP, "en-US"))
        watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
        watched.open()
        assert "token" in watched.page.locator("#status").inner_text()
        watched.shoot("token")
        watched.page.set_input_files("#files", picture)
        watched.page.wait_for_load_state("networkidle")
        assert watched.page.locator("article").count() == 0
        assert "token" in watched.page.locator("#status").inner_text()
        watched.check()
        watched.page.fill("#token", token)
        watched.page.press("#token", "Enter")
        playwright_api.expect(watched.page.locator("#name option")).to_have_count(2)
        watched.open_try("farben")
        watched.choose(picture)
        assert "绿色" in watched.page.locator("article").inner_text()
        command = _copy_program(watched.page, "Python", tmp_path)
        assert "绿色" in _run_program(command, tmp_path)
        assert token not in server.log_text()
        watched.context.close()


def test_console_and_docs_work_under_a_prefix(
    browser: Any, colour_weights: Path, tmp_path: Path
) -> None:
    from app.access_tokens import add_token

    picture = tmp_path / "green.png"
    picture.write_bytes(solid((10, 250, 10)))
    token = add_token(tmp_path / "tokens.json", "desk")
    with (
        Server(colour_weights, tmp_path, access_tokens="on") as server,
        Nginx(tmp_path, server.port, with_prefix=True) as proxy,
    ):
        base = f"https://127.0.0.1:{proxy.port}{PREFIX}"
        watched = Watched(browser, server, (DESKTOP, "en-US"), base)
        page = watched.page
        page.goto(base)  # without the slash, which nginx adds
        page.wait_for_url(f"{base}/")
        watched.requested.clear()
        page.fill("#token", token)
        page.press("#token", "Enter")
        playwright_api.expect(page.locator("#name option")).to_have_count(2)
        watched.open_try("farben")
        watched.choose(picture)
        assert "绿色" in page.locator("article").inner_text()
        assert page.locator("article img").count() == 2
        playwright_api.expect(page.locator("#code")).to_contain_text(
            f"{base}/farben/ImageClassification"
        )
        watched.shoot("prefix")
        page.click("#models a[href$='/farben']")
        playwright_api.expect(page.locator("#model")).to_contain_text(
            f"{base}/farben/ImageClassification"
        )
        watched.check()
        page.click("#to-docs")
        page.wait_for_url(f"{base}/docs?lang=en")
        watched.shoot("prefix-docs")
        watched.check()
        page.click("nav a[href='./']")
        page.wait_for_url(f"{base}/")
        watched.open("/docs")
        page.click("nav a[href='openapi.json']")
        page.wait_for_url(f"{base}/openapi.json")
        watched.context.close()


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
