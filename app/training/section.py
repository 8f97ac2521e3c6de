"""What a training adds to the evaluation report."""

from app.evaluation.report import TrainingSection
from app.reporting.charts import line_plot
from app.training.request import TrainingResult


def make_section(result: TrainingResult, largest_difference: float) -> TrainingSection:
    """Describe a training for its evaluation report.

    Args:
        result: of the training.
        largest_difference: of a score of the package from that of the training.
    """
    record = result.training
    held_out = record["held_out"]
    low, high = held_out["top1_interval_95"]
    photos = record["photos"].values()
    facts = [
        ("method", f"{record['method']}, on features of {record['backbone']['architecture']}"),
        ("photos", f"{sum(c['train'] for c in photos)} to train on, {held_out['photos']} held out"),
        (
            "top-1 on held-out photos",
            f"{held_out['top1']:.1%} (95 % interval {low:.1%} to {high:.1%})",
        ),
        (
            "calibration error",
            f"{held_out['calibration_error_before']:.1%} before, "
            f"{held_out['calibration_error']:.1%} after temperature scaling by "
            f"{held_out['temperature']:.3g}",
        ),
        ("package against training", f"largest difference of a score {largest_difference:.2g}"),
        ("seed", str(record["settings"]["seed"])),
        *((name, text) for name, text in record["versions"].items()),
    ]
    sizes = [str(size) for size, _ in result.curve]
    tops = [top for _, top in result.curve]
    charts = [
        (
            line_plot("top-1", "photos of each class, at most", sizes, [("top-1", tops)]),
            "Learning curve of the linear classifier: what more photos would bring.",
        )
    ]
    if result.history:
        numbers = [str(index + 1) for index in range(len(result.history))]
        series = [
            ("training loss", [epoch.loss for epoch in result.history]),
            ("log loss on held-out photos", [epoch.held_out_loss for epoch in result.history]),
            ("top-1 on held-out photos", [epoch.top1 for epoch in result.history]),
        ]
        charts.append((line_plot("fine-tuning", "epoch", numbers, series), "Fine-tuning."))
    document = {
        **record,
        "learning_curve": [{"photos": size, "top1": top} for size, top in result.curve],
        "largest_score_difference": largest_difference,
    }
    return TrainingSection(document, facts, charts)
