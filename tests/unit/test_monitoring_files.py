"""The dashboard and the alert rules ask for metrics that there are."""

import json
import re
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.observability.metrics import Metrics
from app.observability.metrics_folder import RESERVED_BYTES
from app.settings import PROJECT_ROOT
from tests.support.program import run_program

DEPLOY = PROJECT_ROOT / "deploy"
METRIC = re.compile(r"classifyd_[a-z_]+")


def _exposed_names() -> set[str]:
    metrics = Metrics()
    metrics.count_request("pets", 0)
    metrics.count_shed("pets", "busy")
    metrics.observe_durations("pets", 1.0, {"infer": 1.0})
    metrics.observe_result("pets", 0, "cat", 0.5)
    metrics.observe_batch("pets", 1)
    metrics.count_token("till-1")
    metrics.count_batch_image("pets", 0)
    metrics.show_node(1, 96)
    metrics.show_load(1, 1, 1)
    metrics.show_models({"pets": {"version": "1", "engine": "torchscript", "device": "cpu"}}, True)
    metrics.show_licences({"pets": {"serves": True, "days_left": 30}})
    metrics.show_certificate("/etc/classifyd/server.pem", 1e9)
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {sample.name for family in families for sample in family.samples}


def test_alerts_ask_for_metrics_that_there_are() -> None:
    expressions = (DEPLOY / "alerts.yml").read_text(encoding="utf-8")
    used = set(METRIC.findall(expressions))
    assert used
    assert used <= _exposed_names()


def test_dashboard_shows_every_metric_and_no_other() -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    used = set(METRIC.findall(" ".join(expressions)))
    exposed = {name for name in _exposed_names() if not name.endswith("_created")}
    assert used <= exposed
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}


def test_every_query_is_about_the_chosen_nodes_or_names_the_node() -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            selectors = re.findall(r"(?:classifyd_[a-z_]+|\bup)(\{.*?\})?", target["expr"])
            chosen = [text for text in selectors if 'job=~"$job",instance=~"$instance"' in text]
            assert chosen == selectors, target["expr"]
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]:
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"], rule["alert"]


def test_classes_beyond_the_bound_share_one_series() -> None:
    metrics = Metrics()
    for index in (999, 1000, 1001):
        metrics.observe_result("pets", index, f"class {index}", 0.5)
    text = metrics.exposition().decode()
    assert 'classifyd_top_class_total{deploy_name="pets",label="class 999"} 1.0' in text
    assert 'classifyd_top_class_total{deploy_name="pets",label="_other"} 2.0' in text
    assert "class 1000" not in text


def test_disk_space_is_reserved_for_every_file_that_metrics_write(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from app.observability.metrics import Metrics\n"
        "metrics = Metrics(0, Path(sys.argv[1]))\n"
        "metrics.show_load(1, 1, 1)\n"
        "metrics.show_models({'pets': {'version': '1', 'engine': 'x', 'device': 'cpu'}}, True)\n"
        "metrics.show_licences({'pets': {'serves': True, 'days_left': 30}})\n"
        "metrics.observe_result('pets', 0, 'cat', 0.5)\n"
    )
    run_program(program, tmp_path)
    sizes = {path.stem: path.stat().st_size for path in tmp_path.glob("*.db")}
    assert set(sizes.values()) == {RESERVED_BYTES}, sizes


def test_version_that_is_served_no_more_is_shown_as_0() -> None:
    metrics = Metrics()
    for version in ("1", "2"):
        metrics.show_models({"pets": {"version": version, "engine": "x", "device": "cpu"}}, True)
    text = metrics.exposition().decode()
    assert 'version="1"} 0.0' in text
    assert 'version="2"} 1.0' in text
