"""SVG charts as text: no plotting library to install, and nothing to fetch.

The colours of text, grid and background are those of ``style.css``, light or dark as the reader
prefers: on a page made from ``page.html``, and in a file made by ``standalone``.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import cycle

MARGIN = 52
COLOURS = ("#0072b2", "#c07f00", "#d55e00", "#009e73", "#b8639a", "#8a8100", "#3b93c9", "#808080")
"""Okabe and Ito, Color Universal Design, 2008, in the order of the series; the light ones darker,
for a contrast of 3 to both backgrounds."""

_STYLE = files("app.reporting").joinpath("style.css").read_text(encoding="utf-8")
_MAX_TICKS = 6
_BAR_SHARE = 0.6
_LEGEND_ROW_PX = 22
_CHARACTER_PX = 9
"""Of the larger letters on a phone."""

Tick = tuple[float, str]
"""A position on an axis, 0 to 1, and its label."""

Series = tuple[str, Sequence[float]]
"""A name and one value for each level."""


@dataclass(frozen=True)
class PlotArea:
    """The rectangle between the axes, where positions run from 0 to 1, right and up.

    Width and height are those of the whole chart in px.
    """

    width: int = 520
    height: int = 300

    def x(self, position: float) -> float:
        """The px from the left."""
        return MARGIN + position * (self.width - 2 * MARGIN)

    def y(self, position: float) -> float:
        """The px from the top."""
        return self.height - MARGIN - position * (self.height - 2 * MARGIN)

    def axes(self, title: str, x_label: str, x_ticks: Iterable[Tick], y_ticks: list[Tick]) -> str:
        """Draw title, grid lines and labels; the title says what the vertical axis shows."""
        left, right, bottom = self.x(0), self.x(1), self.height - MARGIN + 19
        grid = [
            f'<line class="grid" x1="{left}" x2="{right}" y1="{self.y(at):.1f}" '
            f'y2="{self.y(at):.1f}"/>'
            for at, _ in y_ticks
        ]
        labels = [text(left - 6, self.y(at) + 4, label, "end") for at, label in y_ticks]
        labels += [text(self.x(at), bottom, label) for at, label in x_ticks]
        labels.append(text(self.width / 2, self.height - 10, x_label))
        heading = text(8, 20, title, "start", 'style="font-weight: 600"')
        return "".join([heading, *grid, *labels])

    def bar(
        self, span: tuple[float, float], low: float, high: float, style: str, title: str
    ) -> str:
        """Draw a bar over a span of the horizontal axis; see rect."""
        left, top = self.x(span[0]), self.y(high)
        return rect(left, top, self.x(span[1]) - left, self.y(low) - top, style, title)


def line_plot(title: str, x_label: str, levels: Sequence[str], series: Sequence[Series]) -> str:
    """Draw a line for each series, with a value at each point if there is only one series.

    The levels are labels on the horizontal axis, at equal distances.
    """
    area, positions = PlotArea(), _middles(len(levels))
    top, ticks = _value_axis([value for _, values in series for value in values])
    parts = [area.axes(title, x_label, zip(positions, levels, strict=True), ticks)]
    for (_, values), colour in zip(series, cycle(COLOURS), strict=False):
        points = [
            (area.x(at), area.y(value / top)) for at, value in zip(positions, values, strict=True)
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
        if len(series) == 1:
            parts += [
                text(x, y - 9, f"{value:.4g}") for (x, y), value in zip(points, values, strict=True)
            ]
    names = [name for name, _ in series]
    return _with_legend(title, area, parts, names if len(names) > 1 else [])


def stacked_bars(title: str, x_label: str, levels: Sequence[str], series: Sequence[Series]) -> str:
    """Draw a bar for each level, with one segment for each series; see line_plot."""
    area, half = PlotArea(), _BAR_SHARE / 2 / max(1, len(levels))
    columns = list(zip(*(values for _, values in series), strict=True))
    top, ticks = _value_axis([sum(column) for column in columns])
    positions = _middles(len(levels))
    parts = [area.axes(title, x_label, zip(positions, levels, strict=True), ticks)]
    for at, column in zip(positions, columns, strict=True):
        below = 0.0
        for (name, _), value, colour in zip(series, column, cycle(COLOURS), strict=False):
            span, label = (at - half, at + half), f"{name}: {value:.2f}"
            low, high = below / top, (below + value) / top
            parts.append(area.bar(span, low, high, f'fill="{colour}"', label))
            below += value
        parts.append(text(area.x(at), area.y(below / top) - 6, f"{below:.4g}"))
    return _with_legend(title, area, parts, [name for name, _ in series])


def _middles(count: int) -> list[float]:
    return [(index + 0.5) / count for index in range(count)]


def _value_axis(values: Sequence[float]) -> tuple[float, list[Tick]]:
    """The value at the top of the axis, and ticks at round numbers from 0 up to it."""
    largest = max(values, default=0) or 1.0
    power = 10.0 ** math.floor(math.log10(largest / _MAX_TICKS))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit * _MAX_TICKS >= largest)
    count = math.ceil(largest / step)
    return step * count, [(i / count, f"{step * i:g}") for i in range(count + 1)]


def _with_legend(title: str, area: PlotArea, parts: list[str], names: Sequence[str]) -> str:
    x, y = float(MARGIN), area.height + 8.0
    for name, colour in zip(names, cycle(COLOURS), strict=False):
        width = 30 + _CHARACTER_PX * len(name)
        if x + width > area.width:
            x, y = float(MARGIN), y + _LEGEND_ROW_PX
        parts += [rect(x, y - 9, 12, 12, f'fill="{colour}"'), text(x + 18, y + 1, name, "start")]
        x += width
    return svg(title, parts, area.width, y + _LEGEND_ROW_PX if names else area.height)


def text(x: float, y: float, label: str, anchor: str = "middle", style: str = "") -> str:
    """Write a label at a place in px; the anchor is that of SVG, ``style`` more attributes."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{escape(label)}</text>'


def rect(x: float, y: float, width: float, height: float, style: str, title: str = "") -> str:
    """Draw a rectangle in px, with attributes for its style and a tooltip."""
    tooltip = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {style}>'
        f"{tooltip}</rect>"
    )


def svg(name: str, parts: Iterable[str], width: float, height: float) -> str:
    """Join elements into one SVG document, with a name for those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(name)}">'
        f'<rect class="paper" width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def standalone(chart: str) -> str:
    """Give a chart its style sheet, for a file of its own."""
    head, paper, rest = chart.partition("<rect")
    return f"{head}<style>{_STYLE}</style>{paper}{rest}"
