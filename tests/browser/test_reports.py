"""The reports of ``bench`` and ``evaluate`` in a real browser: light and dark, large and small."""

from pathlib import Path
from typing import Any

import pytest

from app.bench.formats import to_html
from app.bench.report import Report, Run, charts
from app.bench.result import LoadResult
from app.evaluation.metrics import Bin, ClassResult, Metrics
from app.evaluation.outcomes import Failure
from app.evaluation.report import About, render_html
from app.reporting.charts import standalone
from tests.browser.test_console import DESKTOP, PHONE, axe_api
from tests.browser.test_console import browser as browser  # the fixture

NAMES = ["ants", "bees", "a class with a name that is as long as a line on a phone"]
SCHEMES = ("light", "dark")


def bench_report() -> Report:
    stages = {name: [1.0] for name in ("read", "parse", "base64", "guard", "decode", "infer")}
    runs = [
        Run(
            f"{level} connections",
            level,
            LoadResult(1.0, level, [], False, {0: [float(level)]}, 100, stages),
        )
        for level in (1, 2, 4, 8, 16, 64)
    ]
    facts = [("server", "https://a.host.with.a.long.name.example.com/and/a/path" * 2)]
    return Report("Load on https://till.example.com/imagenet/ImageClassification", facts, runs)


def evaluation_report() -> str:
    about = About("insects", "1", "0" * 64, "torchscript", "single_label", "val", "2026-01-01", 9.0)
    classes = [ClassResult(name, 10, 10, 9) for name in NAMES]
    bins = [Bin(0.0, 0.5, 3, 0.4, 0.5), Bin(0.5, 1.0, 27, 0.9, 1.0)]
    confusions = [(0, 0, 10), (1, 1, 9), (1, 2, 1), (2, 2, 9), (2, 0, 1)]
    metrics = Metrics(30, 28 / 30, 1.0, 28 / 30, 0.05, classes, bins, confusions, [], None)
    failures: list[Failure] = []
    return render_html(about, metrics, failures, NAMES)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_reports_fit_and_are_accessible_light_and_dark(
    browser: Any, tmp_path: Path, size: dict[str, Any]
) -> None:
    leads = ("This server returns 100 results/s; more than", "insects 1 finds the correct class of")
    for html, lead in zip((to_html(bench_report()), evaluation_report()), leads, strict=True):
        (tmp_path / "report.html").write_text(html, encoding="utf-8")
        papers = set()
        for scheme in SCHEMES:
            page = browser.new_context(**size, color_scheme=scheme).new_page()
            page.goto((tmp_path / "report.html").as_uri())
            assert page.locator("p").first.inner_text().startswith(lead)
            assert axe_api.Axe().run(page).response["violations"] == []
            assert page.evaluate("document.documentElement.scrollWidth") == page.evaluate(
                "document.documentElement.clientWidth"
            )
            papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            papers.add(_paper_of_first_chart(page))
            page.close()
        assert papers == {"rgb(255, 255, 255)", "rgb(20, 23, 29)"}


def test_chart_in_a_file_of_its_own_is_light_or_dark(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "chart.svg"
    path.write_text(standalone(charts(bench_report())["latency"]), encoding="utf-8")
    papers = []
    for scheme in SCHEMES:
        page = browser.new_context(color_scheme=scheme).new_page()
        page.goto(path.as_uri())
        papers.append(_paper_of_first_chart(page))
        page.close()
    assert papers == ["rgb(255, 255, 255)", "rgb(20, 23, 29)"]


def _paper_of_first_chart(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.querySelector('.paper')).fill"))
