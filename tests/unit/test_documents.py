"""The documents against the code that they describe, and against each other."""

import re
from pathlib import Path

import click
import pytest

from app.cli.commands import cli
from app.errors import REGISTRY
from app.settings import PROJECT_ROOT

ENGLISH = PROJECT_ROOT / "README.md"
CHINESE = PROJECT_ROOT / "README.zh-CN.md"
READMES = [ENGLISH, CHINESE]
ARCHITECTURE = PROJECT_ROOT / "docs" / "architecture.md"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "benchmarks/*.md", "tests/**/*.md")
    for path in PROJECT_ROOT.glob(pattern)
)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def _code_blocks(text: str) -> list[str]:
    return re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)


def _prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def _names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PROJECT_ROOT)) for path in paths]


@pytest.mark.parametrize("readme", READMES, ids=_names(READMES))
def test_error_table_is_that_of_the_code(readme: Path) -> None:
    rows = [_cells(line) for line in _read(readme).splitlines() if re.match(r"\| \d{6} \|", line)]
    table = {int(row[0]): (row[1], int(row[-1][:3])) for row in rows}
    assert table == {code: (leaf.error_msg, leaf.status) for code, leaf in REGISTRY.items()}
    assert len(rows) == len(REGISTRY)
    assert all(len(row) == 5 and all(row) for row in rows)


def test_both_languages_have_the_same_sections() -> None:
    levels = [re.findall(r"^(#+) ", _prose(_read(readme)), re.MULTILINE) for readme in READMES]
    assert levels[0] == levels[1]


def test_both_languages_have_the_same_tables() -> None:
    tables = [re.findall(r"^\|", _read(readme), re.MULTILINE) for readme in READMES]
    assert len(tables[0]) == len(tables[1])


def test_both_languages_have_the_same_commands_and_answers() -> None:
    assert _code_blocks(_read(ENGLISH)) == _code_blocks(_read(CHINESE))


@pytest.mark.parametrize(
    "fact",
    [r"`[^`\n]+`", r"\d[\d,.]*\d|\d", r"\]\((?!README)[^)]+\)"],
    ids=["names", "numbers", "links"],
)
def test_both_languages_state_the_same_facts(fact: str) -> None:
    # Where a document is there in Chinese, the Chinese page leads to that.
    texts = [_prose(_read(readme)).replace("(docs/zh/", "(docs/") for readme in READMES]
    english, chinese = (sorted(re.findall(fact, text)) for text in texts)
    assert english == chinese


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names(DOCUMENTS))
def test_relative_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", _read(document))
    local = [target for target in targets if not re.match(r"https?://", target)]
    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_names(DOCUMENTS))
def test_make_targets_that_are_named_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", _read(PROJECT_ROOT / "Makefile"), re.MULTILINE))
    code = [*_code_blocks(_read(document)), *re.findall(r"`[^`\n]+`", _prose(_read(document)))]
    named = {
        name for piece in code for name in re.findall(r"\bmake (?:[A-Z]+=\S+ )*([a-z-]+)", piece)
    }
    assert named - targets == set()


def test_readme_names_the_two_commands() -> None:
    for command in ("make run", "make test", "curl -s --data-binary @-"):
        assert any(command in block for block in _code_blocks(_read(ENGLISH)))


def test_architecture_fits_on_120_lines() -> None:
    assert len(_read(ARCHITECTURE).splitlines()) <= 120


def test_architecture_names_every_part_of_the_app() -> None:
    app = PROJECT_ROOT / "app"
    packages = {f"`app/{path.parent.name}/`" for path in app.glob("*/__init__.py")}
    modules = {f"`app/{path.name}`" for path in app.glob("*.py") if path.name != "__init__.py"}
    text = _read(ARCHITECTURE)
    assert {name for name in packages | modules if name not in text} == set()
    assert len(packages) >= 5


GLOSSARY = {
    "应答": "响应",
    "标准样本": "黄金样本",
    "分数": "置信度",
    "文件夹": "目录",
    "管理人员": "运维人员",
    "退回": "回滚",
    "显卡": "GPU",
}
"""Words that Chinese pages do not use, and the one that they use instead."""

CHINESE_PAGES = [CHINESE, *(path for path in DOCUMENTS if path.parent.name == "zh")]


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=_names(CHINESE_PAGES))
def test_chinese_pages_use_one_word_for_one_thing(page: Path) -> None:
    text = _read(page)
    assert {word: better for word, better in GLOSSARY.items() if word in text} == {}


TYPED = ["containers.md", "deploy.md", "licence.md"]


@pytest.mark.parametrize("name", TYPED)
def test_both_languages_type_the_same_commands(name: str) -> None:
    english, chinese = (
        _commands(_read(PROJECT_ROOT / folder / name)) for folder in ("docs", "docs/zh")
    )
    assert english == chinese
    assert len(english) >= 7


@pytest.mark.parametrize("name", TYPED)
def test_every_command_that_is_typed_is_known(name: str) -> None:
    for line in _commands(_read(PROJECT_ROOT / "docs" / name)):
        words = re.sub(r"^sudo (-u classifyd )?", "", line).split()
        if words[0] != "classifyd":
            continue
        command: click.Command = cli
        rest = words[1:]
        while isinstance(command, click.Group):
            command, rest = command.commands[rest[0]], rest[1:]
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, line


def test_the_page_of_models_builds_the_same_packages_in_both_languages() -> None:
    pages = [PROJECT_ROOT / folder / "models.md" for folder in ("docs", "docs/zh")]
    english, chinese = (_code_blocks(_read(page)) for page in pages)
    assert english == chinese
    commands = [line for block in english for line in block.replace("\\\n", "").splitlines()]
    builds = [line for line in commands if line.startswith("classifyd package build")]
    package = cli.commands["package"]
    assert isinstance(package, click.Group)
    parameters = package.commands["build"].params
    options = {name for one in parameters for name in (*one.opts, *one.secondary_opts)}
    used = [word for line in builds for word in line.split() if word.startswith("--")]
    assert set(used) <= options
    for option in ("--torchvision", "--factory", "--timm-config", "--huggingface", "--ultralytics"):
        assert option in used


def _commands(text: str) -> list[str]:
    """The commands of a document, each on one line, without what is said beside them."""
    blocks = re.findall(r"(?:^ {4}\S.*\n(?: {5,}\S.*\n)*)", text, re.MULTILINE)
    joined = [re.sub(r"\\\n\s*", "", block).strip() for block in blocks]
    return [re.split(r"\s{2,}|\s+#", line)[0] for line in joined]
