"""Pages for people: the description of the API and the console, without outside resources."""

from typing import Any

from flask import Blueprint, Response, make_response, render_template

from app.api.answers import json_response
from app.api.openapi import describe_api
from app.api.parts import current_parts

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
    """Write the description of the API for people."""
    return html_page("docs.html", api=_describe(), console=current_parts().settings.console)


def _describe() -> dict[str, Any]:
    parts = current_parts()
    return describe_api(parts.settings, parts.models.describe())


def html_page(template: str, **values: object) -> Response:
    """Render a page that may load nothing from elsewhere."""
    response = make_response(render_template(template, **values))
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
