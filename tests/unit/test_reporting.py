"""How figures are written: counts with their nouns, and charts."""

import re
from xml.etree import ElementTree

import pytest

from app.reporting.charts import line_plot, stacked_bars
from app.reporting.counts import pluralise


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (2, "golden sample", "2 golden samples"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
    ],
)
def test_a_count_agrees_with_its_noun(count: int, noun: str, text: str) -> None:
    assert pluralise(count, noun) == text


def _attributes(chart: str, tag: str, name: str) -> list[float]:
    root = ElementTree.fromstring(chart)  # noqa: S314 - our own text
    return [
        float(element.attrib[name]) for element in root.iter() if element.tag.endswith("}" + tag)
    ]


def test_points_of_a_line_lie_where_their_values_are_on_the_axis() -> None:
    chart = line_plot("<results>", "connections", ["1", "2", "4"], [("results", [0, 50, 100])])
    low, middle, high = _attributes(chart, "circle", "cy")
    assert low - middle == pytest.approx(middle - high)
    grid = _attributes(chart, "line", "y1")
    assert (low, high) == (max(grid), min(grid))
    assert "&lt;results&gt;" in chart


def test_segments_of_a_bar_stand_on_each_other() -> None:
    series = [("decode", [1.0, 2.0]), ("infer", [3.0, 0.0])]
    chart = stacked_bars("ms", "load", ["1", "8"], series)
    bars = re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)" fill="#\w+"><title>', chart)
    (first, first_height), (second, second_height), *_ = [tuple(map(float, bar)) for bar in bars]
    assert second + second_height == pytest.approx(first, abs=0.1)
    assert second_height == pytest.approx(3 * first_height, abs=0.2)
    assert "decode: 1.00" in chart
