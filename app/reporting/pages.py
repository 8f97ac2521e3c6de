"""Reports as one HTML file that loads nothing."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from app.reporting.counts import pluralise

_TEMPLATES = Environment(
    autoescape=True, loader=PackageLoader("app", ""), undefined=StrictUndefined, trim_blocks=True
)
_TEMPLATES.filters["pluralise"] = pluralise


def render_page(template: str, **values: object) -> str:
    """Render a template of the app, such as ``bench/report.html``, which extends ``page.html``."""
    return _TEMPLATES.get_template(template).render(values)
