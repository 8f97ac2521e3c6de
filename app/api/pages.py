"""Web pages: the documentation of the API; they load nothing from other servers."""

import json
import re
from functools import lru_cache

import orjson
from flask import Blueprint, Response, make_response, render_template, request
from jinja2 import pass_context
from jinja2.runtime import Context

from app.api.access import may_see_models
from app.api.answers import JSON_TYPE
from app.api.context import current_context
from app.api.openapi import describe_api, describe_errors
from app.api.translations import LANGUAGES, translate
from app.settings import Settings

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No inline code and no other origin; images may also be data and blobs of the page."""

CACHED_DOCUMENTS = 8
"""Per kind: a set of deploy names in each language, and some sets before it."""

blueprint = Blueprint(
    "pages",
    "app.console",
    static_folder="static",
    static_url_path="/static",
    template_folder="templates",
)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The machine-readable description of the API."""
    return Response(
        _openapi_document(current_context().settings, _visible_names()),
        content_type=JSON_TYPE,
    )


@blueprint.get("/docs")
def docs() -> Response:
    """The documentation of the API, in the language of the reader."""
    context, language = current_context(), reader_language()
    page = guarded(make_response(_docs_document(context.settings, _visible_names(), language)))
    page.headers["Content-Language"] = language
    page.headers["Vary"] = "Accept-Language"
    return page


def reader_language() -> str:
    """The language in ``?lang=``, else the preferred one of the browser."""
    requested = request.args.get("lang", "")
    if requested in LANGUAGES:
        return requested
    return request.accept_languages.best_match(LANGUAGES, "en")


@blueprint.app_template_filter("pretty")
def _pretty(value: object) -> str:
    """JSON with one line for each list of numbers."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return re.sub(r"\[[-+\d\s.,e]+\]", lambda numbers: "".join(numbers[0].split()), text)


@blueprint.app_template_filter("translate")
@pass_context
def _translate(context: Context, text: str) -> str:
    return translate(text, context["language"])


# Rendered once: a page takes as long as an inference, and anybody may ask for it.
@lru_cache(maxsize=CACHED_DOCUMENTS)
def _openapi_document(settings: Settings, names: tuple[str, ...]) -> bytes:
    return orjson.dumps(describe_api(settings, names))


@lru_cache(maxsize=CACHED_DOCUMENTS)
def _docs_document(settings: Settings, names: tuple[str, ...], language: str) -> str:
    return render_template(
        "docs.html",
        api=describe_api(settings, names),
        errors=describe_errors(settings),
        console=settings.console,
        language=language,
    )


def _visible_names() -> tuple[str, ...]:
    context = current_context()
    return tuple(context.models.describe()) if may_see_models(context) else ()


def html_page(template: str, **values: object) -> Response:
    """Render a page under CONTENT_SECURITY_POLICY."""
    return guarded(make_response(render_template(template, **values)))


def guarded(response: Response) -> Response:
    """Let a page load and run nothing but what this server has."""
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
