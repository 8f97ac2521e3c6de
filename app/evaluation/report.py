"""The report: one self-contained HTML file, and the same as JSON."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from app.evaluation.comparison import Comparison
from app.evaluation.metrics import Metrics, to_json
from app.evaluation.outcomes import Failure
from app.evaluation.plots import (
    confusion_matrix,
    reliability_plot,
    score_histogram,
    shown_classes,
)
from app.packages.build.reference import open_picture
from app.reporting.counts import pluralise
from app.reporting.pages import render_page

THUMBNAIL_PX = 200


@dataclass(frozen=True)
class About:
    """What was evaluated, on what, and how fast through the serving path, without loading.

    The date is in ISO 8601; the dataset is a folder or a CSV file.
    """

    name: str
    version: str
    digest: str
    engine: str
    task: str
    dataset: str
    date: str
    images_per_s: float


@dataclass(frozen=True)
class TrainingSection:
    """The part of a report that tells how the model was trained.

    Attributes:
        document: JSON values for the JSON report.
        facts: names and values for people.
        charts: SVG texts with their captions.
    """

    document: dict[str, Any]
    facts: Sequence[tuple[str, str]]
    charts: Sequence[tuple[str, str]]


def write_report(
    path: Path,
    about: About,
    metrics: Metrics,
    failures: Sequence[Failure],
    names: Sequence[str],
    training: TrainingSection | None = None,
    comparison: Comparison | None = None,
) -> None:
    """Write the HTML report to a path, and the JSON next to it.

    Raises:
        OSError: a file cannot be written.
    """
    document = {
        **asdict(about),
        **to_json(metrics, names),
        "failures": [{"file": str(f.sample.path), "problem": f.problem} for f in failures],
        **({"training": training.document} if training else {}),
        **({"comparison": comparison.document()} if comparison else {}),
    }
    path.write_text(
        render_html(about, metrics, failures, names, training, comparison), encoding="utf-8"
    )
    text = json.dumps(document, ensure_ascii=False, indent=2)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def render_html(
    about: About,
    metrics: Metrics,
    failures: Sequence[Failure],
    names: Sequence[str],
    training: TrainingSection | None = None,
    comparison: Comparison | None = None,
) -> str:
    """Render the report as one HTML file that loads nothing."""
    is_multi_label = about.task == "multi_label"
    matrix = "" if is_multi_label else confusion_matrix(metrics.confusions, names)
    return render_page(
        "evaluation/report.html",
        title=f"Evaluation of {about.name} {about.version}",
        lead=_describe_result(about, metrics, failures),
        about=about,
        metrics=metrics,
        is_multi_label=is_multi_label,
        percent=_percent,
        # Charts escape every text in them.
        matrix=Markup(matrix),  # noqa: S704 - see above
        reliability=Markup(reliability_plot(metrics.bins)),  # noqa: S704 - see above
        histogram=Markup(score_histogram(metrics.bins)),  # noqa: S704 - see above
        shown=len(shown_classes(metrics.confusions)),
        worst=[
            {**entry, "thumbnail": _thumbnail(Path(entry["file"]))}
            for entry in to_json(metrics, names)["worst"]
        ],
        labels=[
            (c.name, c.images, c.predicted, _percent(c.precision), _percent(c.recall))
            for c in sorted(metrics.classes, key=lambda c: -c.images)
        ],
        failures=[(failure.sample.path, failure.problem) for failure in failures],
        confused=[
            (names[truth], names[found], images) for truth, found, images in metrics.most_confused
        ],
        comparison=comparison,
        training=training,
        # Charts escape every text in them.
        training_charts=[
            (Markup(chart), caption)  # noqa: S704 - see above
            for chart, caption in (training.charts if training else ())
        ],
    )


def _describe_result(about: About, metrics: Metrics, failures: Sequence[Failure]) -> str:
    name, images = f"{about.name} {about.version}", pluralise(metrics.images, "image")
    if about.task == "multi_label":
        share, found = metrics.exact_match, "exactly the correct labels"
    else:
        share, found = metrics.top1, "the correct class"
    text = f"{name} finds {found} of {round(share * metrics.images)} of {images} ({share:.1%})."
    if failures:
        text += f" {pluralise(len(failures), 'file')} could not be classified."
    return text


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.1f} %"


def _thumbnail(path: Path) -> str:
    """A small jpg as a data URI; the serving path has decoded the file before."""
    small = open_picture(path.read_bytes(), str(path), "exif")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
