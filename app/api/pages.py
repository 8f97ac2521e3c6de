"""Pages for people: the description of the API and the console, without outside resources."""

from typing import Any

from flask import Blueprint, Response, make_response, render_template, request
from jinja2 import pass_context
from jinja2.runtime import Context

from app.api import translations
from app.api.answers import json_response
from app.api.context import current_context
from app.api.openapi import describe_api, describe_errors

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, nothing inline; pictures also from the page's own memory."""

blueprint = Blueprint(
    "pages",
    "app.console",
    static_folder="static",
    static_url_path="/static",
    template_folder="templates",
)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Write the machine-readable description of the API."""
    return json_response(_describe())


@blueprint.get("/docs")
def docs() -> Response:
    """Write the description of the API for people, in the language that they read."""
    settings = current_context().settings
    language = _language()
    page = html_page(
        "docs.html",
        api=_describe(),
        errors=describe_errors(settings),
        console=settings.console,
        language=language,
    )
    page.headers["Content-Language"] = language
    page.headers["Vary"] = "Accept-Language"
    return page


def _language() -> str:
    """The language asked for by ``?lang=``, else the one that the browser prefers."""
    asked = request.args.get("lang", "")
    if asked in translations.LANGUAGES:
        return asked
    return request.accept_languages.best_match(translations.LANGUAGES, "en")


@blueprint.app_template_filter("say")
@pass_context
def _say(context: Context, text: str) -> str:
    return translations.say(text, context["language"])


def _describe() -> dict[str, Any]:
    context = current_context()
    return describe_api(context.settings, context.models.describe())


def html_page(template: str, **values: object) -> Response:
    """Render a page that may load nothing from elsewhere."""
    response = make_response(render_template(template, **values))
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
