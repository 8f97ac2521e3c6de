"""The documents for users: their examples run, and both languages agree."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from app.errors import REGISTRY
from app.settings import PROJECT_ROOT, Settings
from tests.support.images import solid, to_base64
from tests.support.server import Answer, Server
from tests.support.website import balancer

DOCS = PROJECT_ROOT / "docs"
ENGLISH_ONLY = {"architecture.md", "design.md"}
PAIRS = sorted({path.name for path in DOCS.glob("*.md")} - ENGLISH_ONLY)
CLIENTS = PROJECT_ROOT / "app" / "console" / "static" / "clients"
TERMS = {"TorchScript"}
"""Comments that are the same in every language."""
COMMENT = re.compile(r'(?:^|(?<=\s))(?:(?:#|//) |""")(.*?)(?:""")?$', re.MULTILINE)
COLUMN = re.compile(r"(?<=\S) {2,}(\S.*)$", re.MULTILINE)
ORIENTATION = 0x0112
AT_WILL = set(REGISTRY) - {336000, 336100}
"""The others depend on the state of the server."""


def _read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def _fenced(text: str) -> list[tuple[str, re.Pattern[str]]]:
    """Each code block, and what finds its comments: in a listing of files, column two."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(block, COMMENT if language else COLUMN) for language, block in blocks]


def _code(text: str) -> list[str]:
    """The code blocks without their comments."""
    return [comment.sub("", block) for block, comment in _fenced(text)]


def _error_sections() -> dict[int, str]:
    parts = re.split(r"^## (\d+) .*$", _read("errors.md"), flags=re.MULTILINE)
    return {int(code): text for code, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_code_has_a_section_with_its_message_and_status() -> None:
    sections = _error_sections()
    assert set(sections) == set(REGISTRY)
    for code, leaf in REGISTRY.items():
        assert f"## {code} {leaf.error_msg}\n" in _read("errors.md")
        assert f"Status {leaf.status} in `rest`" in sections[code]
        assert "What to do:" in sections[code]
    assert {code for code, text in sections.items() if _blocks(text)} == AT_WILL


@pytest.mark.parametrize("code", sorted(AT_WILL))
def test_example_request_of_a_section_returns_its_code(
    server: Server, colour_weights: Path, tmp_path: Path, code: int
) -> None:
    (command,) = _blocks(_error_sections()[code])
    if code != 337000:
        _expect(command, server, code)
        return
    with Server(colour_weights, tmp_path, access_tokens="on") as locked:
        _expect(command, locked, code)


def _expect(command: str, server: Server, code: int) -> None:
    url = f"http://127.0.0.1:{server.port}/colours/ImageClassification"
    ended = subprocess.run(
        ["sh", "-c", command], env={"URL": url, "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert f'"error_code":{code},'.encode() in ended.stdout


def test_documents_show_the_client_files_that_the_tests_run() -> None:
    shown = _blocks(_read("clients.md"))
    files = [path.read_text(encoding="utf-8") for path in CLIENTS.iterdir()]
    assert set(files) < set(shown)
    # Run by the two tests below.
    others = [block for block in shown if block not in files]
    assert [block.split()[0] for block in others] == ['"""Shrink', '"""Classify']


def _run_example(folder: Path, begin: str, *arguments: str, **replaced: str) -> str:
    code = next(block for block in _blocks(_read("clients.md")) if block.startswith(begin))
    for old, new in replaced.items():
        assert old in code
        code = code.replace(old, new)
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_shrunk_photo_of_a_phone_is_classified(server: Server, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # as a phone writes an upright photo
    noise = Image.effect_noise((5000, 3000), 40).convert("RGB")
    photo = Image.blend(noise, Image.new("RGB", noise.size, (10, 250, 10)), 0.8)
    photo.save(tmp_path / "photo.jpg", quality=97, exif=exif)
    assert _classify(server, tmp_path / "photo.jpg").code == 336004
    _run_example(tmp_path, '"""Shrink')
    answer = _classify(server, tmp_path / "small.jpg")
    assert answer.json["results"][0]["name"] == "green"
    with Image.open(tmp_path / "small.jpg") as small:
        assert small.size == (1229, 2048)


def _classify(server: Server, path: Path) -> Answer:
    return server.classify("colours", {"image": to_base64(path.read_bytes())})


def test_many_images_travel_over_one_connection(server: Server, tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(3)]
    for name in names:
        (tmp_path / name).write_bytes(solid((10, 250, 10), kind="JPEG"))
    with balancer(server, ["/colours/ImageClassification"]) as balanced:
        port = balanced.origin.rpartition(":")[2]
        printed = _run_example(tmp_path, '"""Classify many', *names, **{"8000": port})
    assert printed.count("'name': 'green'") == 3
    assert len(balanced.clients) == 1


@pytest.mark.parametrize("name", PAIRS)
def test_both_languages_have_the_same_sections_codes_and_settings(name: str) -> None:
    english, chinese = _read(name), _read(f"zh/{name}")
    facts = [r"^#+ ", r"^\|", r"\b\d{6}\b", r"`[^`\n]+`", r"^```"]
    for fact in facts:
        found = [sorted(re.findall(fact, text, re.MULTILINE)) for text in (english, chinese)]
        assert found[0] == found[1], fact
    assert _code(english) == _code(chinese)


@pytest.mark.parametrize("name", PAIRS)
def test_comments_of_code_are_in_the_language_of_the_page(name: str) -> None:
    for text, is_chinese in ((_read(name), False), (_read(f"zh/{name}"), True)):
        found = [each for block, comment in _fenced(text) for each in comment.findall(block)]
        for words in set(found) - TERMS:
            assert bool(re.search(r"[\u4e00-\u9fff]", words)) == is_chinese, words


@pytest.mark.parametrize("name", PAIRS)
def test_each_language_links_to_the_other(name: str) -> None:
    assert f"\n[中文](zh/{name})\n" in _read(name)
    assert f"\n[English](../{name})\n" in _read(f"zh/{name}")


def test_settings_that_documents_name_exist() -> None:
    known = {setting.name for setting in fields(Settings)}
    for name in PAIRS:
        named = set(re.findall(r"`([a-z_]+) = \w+`", _read(name)))
        assert named <= known, name


@pytest.mark.parametrize("name", ["settings.md", "zh/settings.md"])
def test_every_setting_is_documented_with_its_default_and_values(name: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.+) \|$", _read(name), re.MULTILINE)
    assert [row[0] for row in rows] == [setting.name for setting in fields(Settings)]
    english = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.+) \|$", _read("settings.md"), re.M)
    for own, other in zip(rows, english, strict=True):
        for cell in (1, 2):
            said = [re.findall(r"`[^`]+`|\d+", row[cell]) for row in (own, other)]
            assert sorted(said[0]) == sorted(said[1]), own[0]


def test_every_metric_is_documented() -> None:
    dashboard = (PROJECT_ROOT / "deploy" / "grafana-dashboard.json").read_text(encoding="utf-8")
    documented = set(re.findall(r"classifyd_[a-z_]+", _read("monitoring.md")))
    shown = re.findall(r"classifyd_[a-z_]+", dashboard)
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} == documented
