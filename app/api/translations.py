"""The description of the API in Chinese: ``translations.zh.json`` maps its English texts."""

import json
from importlib.resources import files

LANGUAGES = ("en", "zh")
CHINESE: dict[str, str] = json.loads(
    files("app.api").joinpath("translations.zh.json").read_text(encoding="utf-8")
)


def translate(text: str, language: str) -> str:
    """Translate an English text of the description; other strings are returned unchanged."""
    return CHINESE.get(text, text) if language == "zh" else text
