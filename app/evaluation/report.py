"""The report: one HTML file that can be mailed, and the same as JSON beside it."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup
from PIL import Image, ImageOps

from app.errors import OperatorError
from app.evaluation.metrics import Metrics, to_json
from app.evaluation.outcomes import Failure
from app.evaluation.plots import (
    confusion_matrix,
    reliability_plot,
    score_histogram,
    shown_classes,
)

THUMBNAIL_PX = 200


@dataclass(frozen=True)
class About:
    """What was evaluated, on what, and how fast.

    Attributes:
        name: the deploy name.
        version: the package's version.
        digest: the package's digest.
        engine: what computed.
        task: ``single_label`` or ``multi_label``.
        dataset: the folder or CSV file.
        date: when, in ISO 8601.
        images_per_s: through the serving path, loading not counted.
    """

    name: str
    version: str
    digest: str
    engine: str
    task: str
    dataset: str
    date: str
    images_per_s: float


def write_report(
    path: Path,
    about: About,
    metrics: Metrics,
    failures: Sequence[Failure],
    names: Sequence[str],
) -> None:
    """Write the HTML report to a path and the JSON beside it.

    Raises:
        OperatorError: a file cannot be written.
    """
    document = {
        **asdict(about),
        **to_json(metrics, names),
        "failures": [{"file": str(f.sample.path), "problem": f.problem} for f in failures],
    }
    try:
        path.write_text(render_html(about, metrics, failures, names), encoding="utf-8")
        text = json.dumps(document, ensure_ascii=False, indent=2)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    except OSError as exc:
        raise OperatorError(f"the report {path} cannot be written: {exc.strerror}") from exc


def render_html(
    about: About, metrics: Metrics, failures: Sequence[Failure], names: Sequence[str]
) -> str:
    """Render the report as one HTML document without anything to fetch."""
    template = files("app.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    several = about.task == "multi_label"
    matrix = "" if several else confusion_matrix(metrics.confusions, names)
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            about=about,
            metrics=metrics,
            failures=failures,
            several=several,
            percent=_percent,
            # Plots are our own markup, in which every foreign text is escaped.
            matrix=Markup(matrix),  # noqa: S704 - see above
            reliability=Markup(reliability_plot(metrics.bins)),  # noqa: S704 - see above
            histogram=Markup(score_histogram(metrics.bins)),  # noqa: S704 - see above
            shown=len(shown_classes(metrics.confusions)),
            classes=len(metrics.classes),
            worst=[
                {
                    "thumbnail": _thumbnail(outcome.sample.path),
                    "file": outcome.sample.path.name,
                    "right": ", ".join(outcome.sample.labels) or "no label",
                    "right_score": outcome.truth_score,
                    "predicted": names[outcome.top[0]],
                    "score": outcome.top_scores[0],
                }
                for outcome in metrics.worst
            ],
        )
    )


def _percent(part: float | None) -> str:
    return "–" if part is None else f"{part * 100:.1f} %"


def _thumbnail(path: Path) -> str:
    """A small jpg as a data URI; the serving path has read the file before."""
    with Image.open(path) as picture:
        small = ImageOps.exif_transpose(picture).convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
