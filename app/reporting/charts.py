"""Plots of a benchmark as SVG text: nothing to install, and nothing to fetch."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, MARGIN = 640, 300, 52
COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442", "#999999")
"""Okabe and Ito's, which the colour-blind can tell apart; in the order of the series."""

_MOST_TICKS = 6
_BAR_SHARE = 0.6
_LEGEND_ROW = 18
_LETTER = 7
"""Width of a letter in px, roughly: what a legend's entry takes."""

Series = tuple[str, Sequence[float]]
"""A name and one value for each level."""


def line_plot(title: str, axis: str, levels: Sequence[str], series: Sequence[Series]) -> str:
    """Draw a line for each series, its points labelled where there is one series alone.

    Args:
        title: what is shown, with its unit.
        axis: what the levels are.
        levels: the names on the horizontal axis, side by side at equal distances.
        series: at least one, each with as many values as there are levels.
    """
    ticks = _ticks([value for _, values in series for value in values])
    top = ticks[-1]
    parts = [_frame(title, axis, levels, ticks)]
    for (_, values), colour in zip(series, COLOURS, strict=False):
        points = [(_x(index, len(levels)), _y(value, top)) for index, value in enumerate(values)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), value in zip(points, values, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
            if len(series) == 1:
                parts.append(_text(x, y - 9, f"{value:.4g}", "middle"))
    return _svg(parts + _legend([name for name, _ in series] if len(series) > 1 else []))


def stacked_bars(title: str, axis: str, levels: Sequence[str], series: Sequence[Series]) -> str:
    """Draw a bar for each level, made of one piece for each series; see line_plot."""
    sums = [sum(values[index] for _, values in series) for index in range(len(levels))]
    ticks = _ticks(sums)
    top, width = ticks[-1], _slot(len(levels)) * _BAR_SHARE
    parts = [_frame(title, axis, levels, ticks)]
    for index in range(len(levels)):
        below = 0.0
        for (name, values), colour in zip(series, _cycle(len(series)), strict=True):
            y, height = _y(below + values[index], top), _height(values[index], top)
            parts.append(
                f'<rect x="{_x(index, len(levels)) - width / 2:.1f}" y="{y:.1f}" '
                f'width="{width:.1f}" height="{height:.1f}" fill="{colour}">'
                f"<title>{escape(name)}: {values[index]:.2f}</title></rect>"
            )
            below += values[index]
        parts.append(_text(_x(index, len(levels)), _y(below, top) - 6, f"{below:.4g}", "middle"))
    return _svg(parts + _legend([name for name, _ in series]))


def _cycle(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers from 0 to above all values, at equal distances."""
    most = max(values, default=0) or 1.0
    power = 10.0 ** math.floor(math.log10(most / _MOST_TICKS))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit * _MOST_TICKS >= most)
    return [step * index for index in range(math.ceil(most / step) + 1)]


def _slot(count: int) -> float:
    return (WIDTH - 2 * MARGIN) / max(1, count)


def _x(index: int, count: int) -> float:
    return MARGIN + _slot(count) * (index + 0.5)


def _height(value: float, top: float) -> float:
    return value / top * (HEIGHT - 2 * MARGIN)


def _y(value: float, top: float) -> float:
    return HEIGHT - MARGIN - _height(value, top)


def _frame(title: str, axis: str, levels: Sequence[str], ticks: Sequence[float]) -> str:
    parts = [_text(8, 20, title, "start", "bold")]
    for value in ticks:
        y = _y(value, ticks[-1])
        parts.append(
            f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        )
        parts.append(_text(MARGIN - 6, y + 4, f"{value:g}", "end"))
    for index, level in enumerate(levels):
        parts.append(_text(_x(index, len(levels)), HEIGHT - MARGIN + 18, level, "middle"))
    parts.append(_text(WIDTH / 2, HEIGHT - 12, axis, "middle"))
    return "".join(parts)


def _legend(names: Sequence[str]) -> list[str]:
    parts: list[str] = []
    x, y = float(MARGIN), HEIGHT + 8.0
    for name, colour in zip(names, _cycle(len(names)), strict=True):
        needed = 30 + _LETTER * len(name)
        if x + needed > WIDTH:
            x, y = float(MARGIN), y + _LEGEND_ROW
        parts.append(f'<rect x="{x}" y="{y - 9}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, y + 1, name, "start"))
        x += needed
    return parts


def _text(x: float, y: float, text: str, anchor: str, weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )


def _svg(parts: Sequence[str]) -> str:
    height = HEIGHT + 2 * _LEGEND_ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )
