"""The charts of an evaluation report."""

from collections import Counter
from collections.abc import Sequence
from html import escape

from app.evaluation.metrics import Bin
from app.reporting.charts import PlotArea, Tick, rect, svg, text
from app.reporting.counts import pluralise

MAX_MATRIX_CLASSES = 30
"""More rows cannot be read: the matrix then shows the most confused classes."""

MAX_NAME_CHARACTERS = 22

LIGHT_SHARE = 0.72
"""From this share of a row on, a cell is so dark that its number has to be light."""

_AREA = PlotArea(480, 340)
_FIFTHS: list[Tick] = [(fifth / 5, f"{fifth / 5:.1f}") for fifth in range(6)]


def reliability_plot(bins: Sequence[Bin]) -> str:
    """Draw the accuracy in each range of scores; perfect calibration is the diagonal."""
    x, y = _AREA.x, _AREA.y
    diagonal = f'<line class="ideal" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>'
    dots = [
        f'<circle class="dot" cx="{x(entry.mean_score):.1f}" cy="{y(entry.accuracy):.1f}" r="3"/>'
        for entry in bins
    ]
    axes = _AREA.axes("accuracy", "score", _FIFTHS, _FIFTHS)
    bars = _bars(bins, [entry.accuracy for entry in bins])
    return svg("Reliability", [axes, *bars, diagonal, *dots], _AREA.width, _AREA.height)


def score_histogram(bins: Sequence[Bin]) -> str:
    """Draw the number of scores in each range."""
    largest = max(entry.count for entry in bins)
    axes = _AREA.axes("number of scores", "score", _FIFTHS, [(0, "0"), (1, str(largest))])
    bars = _bars(bins, [entry.count / largest for entry in bins])
    return svg("Distribution of the scores", [axes, *bars], _AREA.width, _AREA.height)


def _bars(bins: Sequence[Bin], heights: Sequence[float]) -> list[str]:
    titles = [
        f"{entry.low:.2f} to {entry.high:.2f}: {pluralise(entry.count, 'score')}, "
        f"mean {entry.mean_score:.3f}, accuracy {entry.accuracy:.3f}"
        for entry in bins
    ]
    return [
        _AREA.bar((entry.low, entry.high), 0, height, 'class="bar"', title)
        for entry, height, title in zip(bins, heights, titles, strict=True)
    ]


def shown_classes(confusions: Sequence[tuple[int, int, int]]) -> list[int]:
    """The classes of the matrix: all of them, or the most confused ones if there are many."""
    classes = {index for truth, found, _ in confusions for index in (truth, found)}
    if len(classes) <= MAX_MATRIX_CLASSES:
        return sorted(classes)
    mistakes: Counter[int] = Counter()
    for truth, found, images in confusions:
        if truth != found:
            mistakes[truth] += images
            mistakes[found] += images
    return sorted(index for index, _ in mistakes.most_common(MAX_MATRIX_CLASSES))


def confusion_matrix(confusions: Sequence[tuple[int, int, int]], names: Sequence[str]) -> str:
    """Draw correct labels as rows and predicted ones as columns, shaded by share of the row."""
    shown = shown_classes(confusions)
    place = {index: position for position, index in enumerate(shown)}
    totals: Counter[int] = Counter()
    for truth, _, images in confusions:
        totals[truth] += images
    size = max(22, min(56, 480 // max(1, len(shown))))
    left = top = _label_px(shown, names)
    parts = [_labels(shown, names, size, left, top)]
    for truth, found, images in confusions:
        if truth in place and found in place:
            title = f"{names[truth]} as {names[found]}: {images} of {totals[truth]}"
            x, y = left + place[found] * size, top + place[truth] * size
            kind = "right" if truth == found else "wrong"
            parts.append(_cell(x, y, size, images, images / totals[truth], kind, title))
    side = len(shown) * size
    parts.append(rect(left, top, side, side, 'class="frame"'))
    return svg("Confusion matrix", parts, left + side + 8, top + side + 8)


def _cell(x: int, y: int, size: int, images: int, share: float, kind: str, title: str) -> str:
    style = f'class="{kind}" style="fill-opacity:{0.12 + 0.88 * share:.2f}"'
    ink = 'class="light"' if share > LIGHT_SHARE else ""
    label = text(x + size / 2, y + size / 2 + 4, str(images), style=ink)
    return f"<g>{rect(x, y, size - 1, size - 1, style, title)}{label}</g>"


def _labels(shown: Sequence[int], names: Sequence[str], size: int, left: int, top: int) -> str:
    parts = []
    for position, index in enumerate(shown):
        middle, name = position * size + size / 2 + 4, _shorten(names[index])
        upright = f'transform="translate({left + middle},{top - 6}) rotate(-90)"'
        parts += [
            text(left - 6, top + middle, name, "end"),
            f"<text {upright}>{escape(name)}</text>",
        ]
    return "".join(parts)


def _label_px(shown: Sequence[int], names: Sequence[str]) -> int:
    """Room for the longest name; a Chinese character is twice as wide as a Latin one."""
    widths = (
        sum(16 if ord(character) > 0x2E80 else 9 for character in _shorten(names[index]))
        for index in shown
    )
    return 16 + max(widths, default=0)


def _shorten(name: str) -> str:
    is_short = len(name) <= MAX_NAME_CHARACTERS
    return name if is_short else f"{name[: MAX_NAME_CHARACTERS - 1]}…"
