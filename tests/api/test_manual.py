"""The manual at /manual: built from docs/, in both languages, without anything from elsewhere."""

import re
from pathlib import Path

import pytest

from app.folders import MANUAL, PROJECT_ROOT
from tests.support.server import Server

PAGES = sorted(MANUAL.rglob("*.html"))


def test_every_document_is_a_page_in_its_language() -> None:
    for documents, built in (("docs", "."), ("docs/zh", "zh")):
        expected = {path.stem for path in (PROJECT_ROOT / documents).glob("*.md")}
        found = {path.stem for path in (MANUAL / built).glob("*.html")}
        assert found == expected | {"index", "search"}, "run make manual"


@pytest.mark.parametrize(
    ("path", "language", "location"),
    [
        ("/manual", "", "manual/index.html"),
        ("/manual", "zh-CN,zh;q=0.9,en;q=0.8", "manual/zh/index.html"),
        ("/manual/", "", "index.html"),
        ("/manual/", "zh", "zh/index.html"),
    ],
)
def test_start_is_in_the_language_of_the_reader(
    server: Server, path: str, language: str, location: str
) -> None:
    answer = server.request("GET", path, headers={"Accept-Language": language})
    assert (answer.status, answer.headers["Location"], answer.body) == (302, location, b"")


def test_page_runs_nothing_but_what_the_server_has(server: Server) -> None:
    answer = server.request("GET", "/manual/zh/deploy.html")
    assert answer.status == 200
    assert "部署" in answer.body.decode()
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert server.request("GET", "/manual/nothing.html").code == 336001
    assert server.request("GET", "/manual/../../setup.cfg").code == 336001


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(MANUAL)))
def test_page_has_no_inline_code_and_no_broken_link(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert not re.search(r"<script>|<style>| style=|<link[^>]*https?:|src=\"https?:", html)
    for target in re.findall(r'(?:href|src)="([^"]+)"', html):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith(("data:", "mailto:")):
            continue
        file = (page.parent / path.partition("?")[0]).resolve() if path else page
        assert file.is_file(), target
        assert not anchor or f'id="{anchor}"' in file.read_text(encoding="utf-8"), target
