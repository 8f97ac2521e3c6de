"""Plots as SVG text, for a report that is one file and opens anywhere.

Written by hand: three plots of lines and rectangles are no reason to install a plotting
library on a machine that serves.
"""

from collections import Counter
from collections.abc import Sequence
from html import escape

from app.evaluation.metrics import Bin

SIDE = 360
MARGIN = 48
MATRIX_CLASSES = 30
"""More rows than this cannot be read; the most confused classes are shown then."""

MAX_NAME = 22


def reliability_plot(bins: Sequence[Bin]) -> str:
    """What the scores promised against what was true; the diagonal is perfect."""
    bars = [
        _rect(
            _x(entry.low),
            _y(entry.accuracy),
            _x(entry.high) - _x(entry.low) - 1,
            _y(0) - _y(entry.accuracy),
            "bar",
            f"{entry.low:.2f} to {entry.high:.2f}: {entry.count} answers, "
            f"mean score {entry.mean_score:.3f}, right {entry.accuracy:.3f}",
        )
        for entry in bins
    ]
    dots = [
        f'<circle class="dot" cx="{_x(entry.mean_score):.1f}" cy="{_y(entry.accuracy):.1f}" r="3"/>'
        for entry in bins
    ]
    diagonal = f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    ticks = [f"{fifth / 5:.1f}" for fifth in range(6)]
    return _svg([*_axes("score", "part that is right", ticks, ticks), *bars, diagonal, *dots])


def score_histogram(bins: Sequence[Bin]) -> str:
    """How many answers lie in each range of scores."""
    most = max(entry.count for entry in bins)
    bars = [
        _rect(
            _x(entry.low),
            _y(entry.count / most),
            _x(entry.high) - _x(entry.low) - 1,
            _y(0) - _y(entry.count / most),
            "bar",
            f"{entry.low:.2f} to {entry.high:.2f}: {entry.count} answers",
        )
        for entry in bins
    ]
    ticks = [f"{fifth / 5:.1f}" for fifth in range(6)]
    return _svg([*_axes("score", "answers", ticks, ["0", str(most)]), *bars])


def shown_classes(confusions: Sequence[tuple[int, int, int]]) -> list[int]:
    """The classes of the matrix: all, or the most confused ones when they are many."""
    classes = {index for truth, found, _ in confusions for index in (truth, found)}
    if len(classes) <= MATRIX_CLASSES:
        return sorted(classes)
    mistakes: Counter[int] = Counter()
    for truth, found, images in confusions:
        if truth != found:
            mistakes[truth] += images
            mistakes[found] += images
    return sorted(index for index, _ in mistakes.most_common(MATRIX_CLASSES))


def confusion_matrix(confusions: Sequence[tuple[int, int, int]], names: Sequence[str]) -> str:
    """Right names down, predicted names across; the shade is the part of a row."""
    shown = shown_classes(confusions)
    place = {index: position for position, index in enumerate(shown)}
    totals: Counter[int] = Counter()
    for truth, _, images in confusions:
        totals[truth] += images
    cell = max(18, min(56, 480 // max(1, len(shown))))
    left, top = _label_space(shown, names), _label_space(shown, names)
    parts = [_names(shown, names, cell, left, top)]
    for truth, found, images in confusions:
        if truth in place and found in place:
            part = images / totals[truth]
            title = f"{names[truth]} as {names[found]}: {images} of {totals[truth]}"
            x, y = left + place[found] * cell, top + place[truth] * cell
            parts.append(_cell(x, y, cell, part, images, truth == found, title))
    side = len(shown) * cell
    parts.append(f'<rect class="frame" x="{left}" y="{top}" width="{side}" height="{side}"/>')
    return _svg(parts, left + side + 8, top + side + 8)


def _cell(x: int, y: int, cell: int, part: float, images: int, right: bool, title: str) -> str:
    kind = "right" if right else "wrong"
    shade = f'style="fill-opacity:{0.12 + 0.88 * part:.2f}"'
    ink = "light" if part > 0.55 else "ink"
    text = (
        f'<text class="{ink}" x="{x + cell / 2}" y="{y + cell / 2 + 4}" '
        f'text-anchor="middle">{images}</text>'
    )
    return (
        f'<g><title>{escape(title)}</title><rect class="{kind}" {shade} x="{x}" y="{y}" '
        f'width="{cell - 1}" height="{cell - 1}"/>{text}</g>'
    )


def _names(shown: Sequence[int], names: Sequence[str], cell: int, left: int, top: int) -> str:
    parts = []
    for position, index in enumerate(shown):
        middle = position * cell + cell / 2
        name = escape(_short(names[index]))
        parts.append(
            f'<text x="{left - 6}" y="{top + middle + 4}" text-anchor="end">{name}</text>'
            f'<text transform="translate({left + middle + 4},{top - 6}) rotate(-90)">{name}</text>'
        )
    return "".join(parts)


def _label_space(shown: Sequence[int], names: Sequence[str]) -> int:
    """Pixels for the longest name; a Chinese character is twice as wide as a Latin one."""
    widths = (
        sum(13 if ord(character) > 0x2E80 else 7 for character in _short(names[index]))
        for index in shown
    )
    return 16 + max(widths, default=0)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def _x(part: float) -> float:
    return MARGIN + part * (SIDE - MARGIN - 12)


def _y(part: float) -> float:
    return SIDE - MARGIN - part * (SIDE - MARGIN - 12)


def _axes(x_label: str, y_label: str, x_ticks: list[str], y_ticks: list[str]) -> list[str]:
    frame = f'<rect class="frame" x="{_x(0)}" y="{_y(1)}" width="{_x(1) - _x(0)}" '
    parts = [f'{frame}height="{_y(0) - _y(1)}"/>']
    for position, tick in enumerate(x_ticks):
        x = _x(position / (len(x_ticks) - 1))
        parts.append(f'<text x="{x:.1f}" y="{_y(0) + 16}" text-anchor="middle">{tick}</text>')
    for position, tick in enumerate(y_ticks):
        y = _y(position / (len(y_ticks) - 1))
        parts.append(f'<text x="{_x(0) - 6}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    middle = (_y(0) + _y(1)) / 2
    parts.append(f'<text x="{_x(0.5)}" y="{SIDE - 10}" text-anchor="middle">{x_label}</text>')
    parts.append(
        f'<text transform="translate(12,{middle}) rotate(-90)" '
        f'text-anchor="middle">{y_label}</text>'
    )
    return parts


def _rect(x: float, y: float, width: float, height: float, kind: str, title: str) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}"><title>{escape(title)}</title></rect>'
    )


def _svg(parts: Sequence[str], width: int = SIDE, height: int = SIDE) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'
    )
