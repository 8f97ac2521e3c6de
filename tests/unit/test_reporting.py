"""How figures are written: counts with their nouns, and charts."""

import re
from xml.etree import ElementTree

import pytest

from app.bench.conclusion import conclude
from app.bench.report import Run
from app.bench.result import LoadResult
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


def _run(level: int, rate: float, latency_ms: float, errors: int = 0, is_open: bool = False) -> Run:
    latencies = {0: [latency_ms] * 10} | ({336100: [1.0] * errors} if errors else {})
    result = LoadResult(10.0, 0, latencies_ms=latencies, results_in_time=int(rate * 10))
    return Run(f"{level} {'requests/s' if is_open else 'connections'}", level, result, 0, is_open)


def test_conclusion_names_the_connections_from_which_callers_only_wait() -> None:
    runs = [_run(64, 238, 266), _run(2, 150, 13), _run(16, 230, 67), _run(8, 227, 35)]
    found = conclude(runs)
    # 95 % of 238 is 226.1: 8 connections are enough.
    assert (found.results_per_s, found.enough_connections) == (238, 8)
    assert found.text == (
        "This server returns 238 results/s; more than 8 connections add only waiting (median "
        "latency 35 ms with 8, 266 ms with 64)."
    )


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([_run(8, 90, 80)], "This server returns 90 results/s with 8 connections."),
        (
            [_run(1, 40, 25), _run(2, 80, 25)],
            "This server returns 80 results/s with 2 connections, the most that were tried; "
            "more may bring more.",
        ),
        (
            [_run(50, 50, 30, is_open=True)],
            "It keeps up with 50 requests/s: 99 of 100 are answered within 30 ms.",
        ),
        (
            [_run(500, 240, 900, errors=30, is_open=True)],
            "It does not keep up with 500 requests/s: it returned 240 results/s. "
            "With 500 requests/s, 30 of 40 failed (336100).",
        ),
    ],
    ids=["one load", "still rising", "open loop", "overload"],
)
def test_conclusion_follows_from_the_figures(runs: list[Run], text: str) -> None:
    assert conclude(runs).text == text
