"""Build the manual from the documents: static HTML in both languages, with search.

    python docs/manual/build.py OUTPUT

Sphinx builds each language on its own, as an index for the search has one language. The pages load
nothing from elsewhere, and their few inline scripts and styles are moved into files, so that the
server's Content-Security-Policy holds for them too.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent
ROOT = DOCS.parent

SECTIONS = {
    ("Start", "开始"): ["train", "models", "package", "migrate"],
    ("Call the API", "调用 API"): ["clients", "errors", "batch"],
    ("Operate", "运维"): [
        "deploy", "containers", "scale", "settings", "commands", "versions", "licence",
        "monitoring", "performance", "compatibility",
    ],
    ("Look up", "查阅"): ["glossary"],
}  # fmt: skip
ENGLISH_ONLY = {("For engineers", "面向工程师"): ["architecture", "design"]}
"""Pages about the code; Chinese pages link to the English ones."""

_LINK = re.compile(r"\[([^\]\n]*)\]\(([^)\s]+)\)")
_PAGE = re.compile(r"(?:.*/)?([\w.-]+)\.md")
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_INLINE_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_PLURALS = re.compile(r"Documentation\.PLURAL_EXPR = new Function\([^;]*;", re.DOTALL)
_STYLE_ATTRIBUTE = re.compile(r' style="([^"]*)"')

ACCESSIBLE = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<aside class="sidebar-drawer"': '<aside aria-label="classifyd" class="sidebar-drawer"',
    "<pre>": '<pre tabindex="0">',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
    '<aside class="toc-drawer': '<aside aria-label="contents" class="toc-drawer',
}
"""What axe-core finds missing in the theme's pages."""


def main() -> None:
    """Build both languages, or end with what Sphinx warns of."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "manual"
        for language in ("en", "zh"):
            source = Path(folder) / f"source-{language}"
            _collect(source, language)
            _run_sphinx(source, built if language == "en" else built / "zh", language)
        _finish_pages(built)
        _remove_eval(built)
        for left_over in (*built.rglob(".buildinfo*"), *built.rglob("objects.inv")):
            left_over.unlink()
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(built, output)
    print(f"{output}: the manual, {len(list(output.rglob('*.html')))} pages")  # noqa: T201


def _collect(source: Path, language: str) -> None:
    """Copy the pages of a language into a folder of their own, with links that hold there."""
    source.mkdir()
    is_chinese = language == "zh"
    readme = ROOT / ("README.zh-CN.md" if is_chinese else "README.md")
    folder = DOCS / "zh" if is_chinese else DOCS
    sections = SECTIONS if is_chinese else SECTIONS | ENGLISH_ONLY
    known = {"index", *(name for names in (SECTIONS | ENGLISH_ONLY).values() for name in names)}
    rewrite = partial(_rewrite, is_chinese=is_chinese, pages=known)
    pages = {name: folder / f"{name}.md" for names in sections.values() for name in names}
    for name, path in {"index": readme, **pages}.items():
        text = _LINK.sub(rewrite, path.read_text(encoding="utf-8"))
        if name == "index":
            text += "".join(
                f"\n```{{toctree}}\n:hidden:\n:caption: {captions[is_chinese]}\n\n"
                + "\n".join(names)
                + "\n```\n"
                for captions, names in sections.items()
            )
        (source / f"{name}.md").write_text(text, encoding="utf-8")


def _rewrite(link: re.Match[str], is_chinese: bool, pages: set[str]) -> str:
    """Let a link of a document lead to a page of the manual, or make it plain text."""
    text, target = link.groups()
    path, mark, anchor = target.partition("#")
    page = _PAGE.fullmatch(path)
    if "://" in target or not path:
        return link[0]
    name = page[1].replace("README.zh-CN", "index").replace("README", "index") if page else ""
    if name not in pages:
        return text
    if _is_chinese(path, is_chinese) != is_chinese:
        return f'<a href="{"../" if is_chinese else "zh/"}{name}.html{mark}{anchor}">{text}</a>'
    return f"[{text}]({name}.md{mark}{anchor})"


def _is_chinese(path: str, from_chinese: bool) -> bool:
    """Say whether a link from a page of a language leads to a Chinese page."""
    if "README" in path:
        return "zh-CN" in path
    if from_chinese and not path.startswith("docs/"):
        return not path.startswith("../")
    return "zh/" in path


def _run_sphinx(source: Path, output: Path, language: str) -> None:
    environment = {**os.environ, "MANUAL_LANGUAGE": "zh_CN" if language == "zh" else "en"}
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    places = ["-c", str(HERE), "-d", str(source.parent / f"cache-{language}"), source, output]
    done = subprocess.run([*command, *map(str, places)], env=environment)  # noqa: S603
    if done.returncode:
        sys.exit(f"build.py: the {language} manual has the faults above")


def _finish_pages(built: Path) -> None:
    """Move scripts and styles from the pages into files, and make the pages accessible."""
    for page in built.rglob("*.html"):
        statics = (built / "zh" if "zh" in page.relative_to(built).parts else built) / "_static"
        html = _INLINE_SCRIPT.sub(partial(_move_script, statics), page.read_text(encoding="utf-8"))
        for found, better in ACCESSIBLE.items():
            html = html.replace(found, better)
        rules = dict.fromkeys(_INLINE_STYLE.findall(html))
        html = _INLINE_STYLE.sub("", html)
        for style in dict.fromkeys(_STYLE_ATTRIBUTE.findall(html)):
            html = html.replace(f' style="{style}"', f' data-style="{_digest(style)}"')
            rules[f'[data-style="{_digest(style)}"] {{ {style} }}'] = None
        name = _write_static(statics, "\n".join(rules), "css")
        html = html.replace("</head>", f'<link rel="stylesheet" href="{name}">\n</head>', 1)
        page.write_text(html, encoding="utf-8")


def _remove_eval(built: Path) -> None:
    """Replace the code that makes a function of the translations' rule for plurals.

    Of the two languages only Chinese has translations, and it has one form for every number.
    """
    for file in built.rglob("doctools.js"):
        code, count = _PLURALS.subn("Documentation.PLURAL_EXPR = () => 0;", file.read_text())
        if count != 1:
            sys.exit(f"build.py: {file.name} of this version of Sphinx is not known")
        file.write_text(code)


def _move_script(statics: Path, found: re.Match[str]) -> str:
    return f'<script src="{_write_static(statics, found[1], "js")}"></script>'


def _write_static(statics: Path, code: str, suffix: str) -> str:
    name = f"inline-{_digest(code)}.{suffix}"
    (statics / name).write_text(code, encoding="utf-8")
    return f"_static/{name}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


if __name__ == "__main__":
    main()
