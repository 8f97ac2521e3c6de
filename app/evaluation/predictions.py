"""The predictions of an evaluation, one image a line."""

import csv
from collections.abc import Sequence
from pathlib import Path

from app.evaluation.dataset import LABEL_SEPARATOR
from app.evaluation.outcomes import Failure, Outcome

COLUMNS = (
    *("file", "label", "predicted", "score", "correct", "label_score"),
    *("second", "second_score", "problem"),
)


def write_predictions(
    path: Path, outcomes: Sequence[Outcome], failures: Sequence[Failure], names: Sequence[str]
) -> None:
    """Write a CSV file in UTF-8: each image with its correct and its best labels.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for outcome in outcomes:
            sample, (best, *others) = outcome.sample, outcome.top
            scores = outcome.top_scores
            second = (names[others[0]], f"{scores[1]:.6f}") if others else ("", "")
            is_right = int(best in outcome.truth)
            score, own = f"{scores[0]:.6f}", f"{outcome.truth_score:.6f}"
            label = LABEL_SEPARATOR.join(sample.labels)
            writer.writerow([sample.path, label, names[best], score, is_right, own, *second, ""])
        for failure in failures:
            label = LABEL_SEPARATOR.join(failure.sample.labels)
            writer.writerow([failure.sample.path, label, *[""] * 6, failure.problem])
