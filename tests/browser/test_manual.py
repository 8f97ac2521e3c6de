"""The manual in a real browser."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.test_console import DARK, DESKTOP, PHONE, Watched, playwright_api
from tests.browser.test_console import browser as browser  # the fixture
from tests.support.server import Server


@pytest.fixture(
    params=[(DESKTOP, "en-US"), (DESKTOP, "zh-CN"), (PHONE, "zh-CN"), (DARK, "en-US")],
    ids=["desktop-en", "desktop-zh", "phone-zh", "dark-en"],
)
def opened(browser: Any, server: Server, request: Any) -> Iterator[Watched]:
    watched = Watched(browser, server, request.param)
    watched.open("/manual")
    yield watched
    watched.context.close()


def test_search_finds_pages_in_the_language_of_the_reader(opened: Watched) -> None:
    is_chinese = opened.language == "zh-CN"
    opened.open()
    opened.page.click("#to-manual")  # of the console
    opened.page.wait_for_url(f"**/manual/{'zh/' if is_chinese else ''}index.html")
    opened.shoot("manual")
    # Two words, which Chinese writes as one.
    query = "授权文件" if is_chinese else "licence file"
    folder = "/zh" if is_chinese else ""
    opened.open(f"/manual{folder}/search.html?q={query}")
    found = opened.page.locator("#search-results a[href*='licence.html']").first
    playwright_api.expect(found).to_be_visible()
    opened.shoot("manual-search")
    found.click()
    opened.page.wait_for_load_state("networkidle")
    assert opened.page.url.split("?")[0].split("#")[0].endswith(f"{folder}/licence.html")
    opened.check()
