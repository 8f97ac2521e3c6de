"""Sphinx's settings for both languages of the manual; build.py chooses by MANUAL_LANGUAGE."""

import os
import re
from itertools import pairwise

from sphinx.application import Sphinx
from sphinx.search import SearchLanguage

language = os.environ["MANUAL_LANGUAGE"]
project = "classifyd"
html_title = {"en": "classifyd manual", "zh_CN": "classifyd 手册"}[language]
extensions = ["myst_parser"]
myst_heading_anchors = 4
# Diagrams and shortened JSON in code blocks are not valid in the language they are marked with.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_favicon = "../../app/console/static/icon.svg"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_use_index = False
html_domain_indices = False


class ChineseSearch(SearchLanguage):
    """Indexes Chinese text by pairs of characters, as Lucene's CJKAnalyzer does.

    Sphinx's own index needs a dictionary that the browser does not have: a query of two words
    without a space between them would find nothing. Its stemmer for Chinese does not load either
    (Sphinx 9.0).
    """

    lang = "zh"
    language_name = "Chinese"
    js_splitter_code = r"""
function splitQuery(query) {
  const words = query.match(/\p{Script=Han}+|[\w.-]*\w/gu) || [];
  return words.flatMap((word) =>
    /^\p{Script=Han}{2,}$/u.test(word)
      ? Array.from(word.slice(1), (character, index) => word[index] + character)
      : [word]);
}
"""
    _words = re.compile(r"[\u3400-\u9fff]+|[\w.-]*\w", re.ASCII)

    def init(self, options: dict[str, str]) -> None:
        """Take no options."""

    def split(self, input: str) -> list[str]:
        """Split a text into words of letters and pairs of Chinese characters."""
        words: list[str] = []
        for word in self._words.findall(input):
            is_chinese = len(word) > 1 and word[0] >= "\u3400"
            words += map("".join, pairwise(word)) if is_chinese else [word]
        return words

    def stem(self, word: str) -> str:
        """Words are found in the form in which they stand."""
        return word.lower()


def setup(app: Sphinx) -> None:
    """Register the search of Chinese text."""
    app.add_search_language(ChineseSearch)
