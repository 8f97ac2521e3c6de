"""Web pages: the documentation of the API; they load nothing from other servers."""

from typing import Any

from flask import Blueprint, Response, make_response, render_template, request
from jinja2 import pass_context
from jinja2.runtime import Context

from app.api.access import may_see_models
from app.api.answers import json_response
from app.api.context import current_context
from app.api.openapi import describe_api, describe_errors
from app.api.translations import LANGUAGES, translate

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No inline code and no other origin; images may also be data and blobs of the page."""

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
    return json_response(_describe())


@blueprint.get("/docs")
def docs() -> Response:
    """The documentation of the API, in the language of the reader."""
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
    """The language in ``?lang=``, else the preferred one of the browser."""
    requested = request.args.get("lang", "")
    if requested in LANGUAGES:
        return requested
    return request.accept_languages.best_match(LANGUAGES, "en")


@blueprint.app_template_filter("translate")
@pass_context
def _translate(context: Context, text: str) -> str:
    return translate(text, context["language"])


def _describe() -> dict[str, Any]:
    context = current_context()
    names = context.models.describe() if may_see_models(context) else ()
    return describe_api(context.settings, names)


def html_page(template: str, **values: object) -> Response:
    """Render a page under CONTENT_SECURITY_POLICY."""
    response = make_response(render_template(template, **values))
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
