"""A real Prometheus that scrapes a real server, with the files of deploy/."""

import json
import math
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.access_tokens import add_token
from app.settings import PROJECT_ROOT
from tests.support.certificates import make_certificate
from tests.support.images import GREEN, RED
from tests.support.licences import build_sealed_package, customer_fingerprint, write_licence
from tests.support.packages import build_colour_package, build_slow_package
from tests.support.server import Server, free_port
from tests.support.tools import find_program
from tests.support.waiting import wait_until

DEPLOY = PROJECT_ROOT / "deploy"
DOWN = "127.0.0.1:1"
"""A second node, which does not respond."""

PROMETHEUS, PROMTOOL = find_program("prometheus"), find_program("promtool")


def _rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


ALERTS = {rule["alert"] for rule in _rules()}


def _promtool(*arguments: object) -> None:
    ended = subprocess.run(
        [PROMTOOL, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_promtool_accepts_the_files() -> None:
    _promtool("check", "rules", "--lint=all", "--lint-fatal", DEPLOY / "alerts.yml")
    _promtool("check", "config", "--lint-fatal", DEPLOY / "prometheus.yml")


HEALTHY = {
    "classifyd_requests_total{code='0',deploy_name='pets'": "0+600x60",
    "classifyd_requests_total{code='336000',deploy_name='pets'": "0x60",
    "classifyd_requests_total{code='337000',deploy_name='pets'": "0+1x60",
    "classifyd_requests_shed_total{deploy_name='pets',reason='busy'": "0+1x60",
    "classifyd_requests_shed_total{deploy_name='pets',reason='not_loaded'": "0x60",
    "classifyd_request_duration_seconds_bucket{deploy_name='pets',le='2.5'": "0+600x60",
    "classifyd_request_duration_seconds_bucket{deploy_name='pets',le='0.1'": "0+600x60",
    "classifyd_request_duration_seconds_bucket{deploy_name='pets',le='+Inf'": "0+600x60",
    "classifyd_worker_resident_memory_bytes{worker='0'": "5e8x60",
    "classifyd_worker_starts_total{": "1x30 2x30",  # one reload
    "classifyd_licence_days_left{deploy_name='pets'": "31x60",
    "classifyd_tls_certificate_expiration_timestamp_seconds{filename='a.pem'": f"{31 * 86400}x60",
    "up{": "1x60",
    "classifyd_ready{": "1x60",
    "classifyd_node_info{node_id='1'": "1x60",
}
UNHEALTHY = {
    "classifyd_requests_total{code='336000',deploy_name='pets'": "0+1x60",
    "classifyd_requests_total{code='337000',deploy_name='pets'": "0+60x60",
    "classifyd_requests_shed_total{deploy_name='pets',reason='busy'": "0+60x60",
    "classifyd_requests_shed_total{deploy_name='pets',reason='not_loaded'": "0+1x60",
    "classifyd_request_duration_seconds_bucket{deploy_name='pets',le='0.1'": "0x60",
    "classifyd_worker_starts_total{": "1+1x60",
    "classifyd_licence_days_left{deploy_name='pets'": "29x60",
    "classifyd_tls_certificate_expiration_timestamp_seconds{filename='a.pem'": f"{30 * 86400}x60",
    "up{": "0x60",
    "classifyd_ready{": "0x60",
}
WEEK = "0+450x384"  # the sum over 500 images each half hour, for eight days
DRIFT = {
    "classifyd_top_score_count{deploy_name='pets'": "0+500x384",
    "classifyd_top_score_sum{deploy_name='pets'": "0+450x376 169300+250x8",
}


def _case(
    nodes: dict[str, dict[str, str]], interval: str, at: str, firing: dict[str, set[str]]
) -> dict[str, Any]:
    """The series of each node, and the alerts that fire for each."""
    return {
        "interval": interval,
        "input_series": [
            {
                "series": f"{name}{'' if name.endswith('{') else ','}"
                f"job='classifyd',instance='{node}'}}",
                "values": values,
            }
            for node, series in nodes.items()
            for name, values in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": "group by (alertname, instance) (ALERTS{alertstate='firing'})",
                "eval_time": at,
                "exp_samples": [
                    {"labels": f"{{alertname='{name}',instance='{node}'}}", "value": 1}
                    for node, names in firing.items()
                    for name in sorted(names)
                ],
            }
        ],
    }


def test_each_alert_fires_only_when_it_should(tmp_path: Path) -> None:
    drift, shared = "ClassifydScoresDrift", "ClassifydNodeIdShared"
    other = {name.replace("node_id='1'", "node_id='2'"): x for name, x in HEALTHY.items()}
    hour = [
        _case({"a": HEALTHY, "b": other}, "1m", "59m", {}),
        _case({"a": HEALTHY, "b": HEALTHY}, "1m", "59m", {"a": {shared}, "b": {shared}}),
        # The healthy node has none, and does not hide those of the other.
        _case({"a": HEALTHY | UNHEALTHY, "b": other}, "1m", "59m", {"a": ALERTS - {drift, shared}}),
    ]
    steady = DRIFT | {"classifyd_top_score_sum{deploy_name='pets'": WEEK}
    week = [
        _case({"a": steady}, "30m", "190h", {}),
        _case({"a": DRIFT, "b": steady}, "30m", "191h", {"a": {drift}}),
    ]
    for interval, cases in {"1m": hour, "10m": week}.items():
        file = tmp_path / f"alerts-{interval}.json"
        rules = [str(DEPLOY / "alerts.yml")]
        document = {"rule_files": rules, "evaluation_interval": interval, "tests": cases}
        file.write_text(json.dumps(document), encoding="utf-8")
        _promtool("test", "rules", file)


class Prometheus:
    """A Prometheus that scrapes one server every second."""

    def __init__(self, folder: Path, server: Server, token: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
        (job,) = config["scrape_configs"]
        self.target = f"127.0.0.1:{server.port}"
        job["static_configs"][0]["targets"] = [self.target, DOWN]
        job["scrape_interval"] = "1s"
        job["scheme"], job["tls_config"] = "https", {"insecure_skip_verify": True}
        job["authorization"] = {"credentials": token}
        config["rule_files"] = [str(DEPLOY / "alerts.yml")]
        config["global"] = {"evaluation_interval": "1s"}
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        self._log = (folder / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={self.address}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def ask(self, path: str, **query: str) -> Any:
        """Send a query to its API."""
        address = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=60) as response:
            answer = json.load(response)
        assert answer["status"] == "success"
        return answer["data"]

    def values(self, expression: str) -> list[float]:
        """The current values of an expression, without NaN."""
        result = self.ask("query", query=expression)["result"]
        values = [float(sample["value"][1]) for sample in result]
        return [value for value in values if not math.isnan(value)]

    def is_ready(self) -> bool:
        """Whether it answers."""
        assert self.process.poll() is None, "prometheus ended"
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=60):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()
        self._log.close()


@pytest.fixture
def scraped(tmp_path: Path) -> Iterator[Prometheus]:
    """A server under load that exports every metric, and its Prometheus."""
    weights, state, licences = tmp_path / "weights", tmp_path / "state", tmp_path / "licences"
    publisher = Ed25519PrivateKey.generate()
    build_sealed_package(weights, "sealed", publisher)
    build_colour_package(weights, "colours", ["red", "green", "blue"])
    build_slow_package(weights, "slow")
    fingerprint = customer_fingerprint(state)
    write_licence(licences / "a.licence", publisher, fingerprint, "sealed", days=20)
    settings = {"access_tokens": "on", "licence_dir": licences, "max_in_flight": 4}
    certificate, key = make_certificate(tmp_path, 0, 20)
    settings |= {"tls_certificate": certificate, "tls_key": key}
    with Server(weights, state, inference_threads=1, **settings) as server:
        token = add_token(state / "tokens.json", "till-1")
        prometheus = Prometheus(tmp_path, server, token)
        ended = threading.Event()
        with ThreadPoolExecutor(8) as pool:
            for index in range(8):
                pool.submit(_ask_all_the_time, server, token, index, ended)
            try:
                wait_until(prometheus.is_ready)
                yield prometheus
            finally:
                ended.set()
                prometheus.stop()


def _ask_all_the_time(server: Server, token: str, index: int, ended: threading.Event) -> None:
    names = ("colours", "sealed", "slow")
    bodies: list[object] = [{"image": RED}, {"image": GREEN, "top_num": 1}, {"image": "%"}, {}]
    bearer = {"Authorization": f"Bearer {token}"}
    batch = json.dumps({"images": [RED, "%"]}).encode()
    for count in range(10**9):
        if ended.is_set():
            return
        server.classify(names[(count + index) % 3], bodies[count // 3 % 4], **bearer)
        if count % 20 == 0:
            server.request("POST", "/colours/ImageClassification/batch", batch, bearer)
            server.classify("colours", {"image": RED})


def test_every_query_of_the_dashboard_returns_data(scraped: Prometheus) -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(asked) >= 30
    for expression in asked:
        filled = _fill(expression, f"({scraped.target}|{DOWN})")
        wait_until(lambda filled=filled: bool(scraped.values(filled)), filled)  # type: ignore[misc]  # bound early
    # For one node and for all.
    counts = {panel["title"]: panel["targets"][0]["expr"] for panel in panels}
    for title, nodes, expected in (
        ("Nodes ready", scraped.target, [1]),
        ("Nodes ready", DOWN, [0]),
        ("Nodes not ready", scraped.target, [0]),
        ("Nodes not ready", f"({scraped.target}|{DOWN})", [1]),
    ):
        assert scraped.values(_fill(counts[title], nodes)) == expected
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = variable["query"]["query"][len("label_values(") : -1].rsplit(", ", 1)
            metric = metric.replace("$job", ".*").replace("$instance", ".*")
            assert scraped.ask(f"label/{label}/values", **{"match[]": metric})
    groups = scraped.ask("rules")["groups"]
    loaded = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert set(loaded) == ALERTS
    wait_until(lambda: _are_healthy(scraped))
    firing = {rule["name"]: rule for rule in _loaded(scraped) if rule["state"] == "firing"}
    # Both end in 20 days.
    licence, certificate = firing["ClassifydLicenceEnds"], firing["ClassifydCertificateExpires"]
    summary = licence["alerts"][0]["annotations"]["summary"]
    assert f"sealed on {scraped.target} expires in 20 days" in summary
    summary = certificate["alerts"][0]["annotations"]["summary"]
    assert f"{scraped.target} expires in 19d 23h" in summary


def _fill(expression: str, nodes: str) -> str:
    """Put in what Grafana puts in for the variables."""
    filled = (
        expression.replace("$__rate_interval", "20s")
        .replace("$job", "classifyd")
        .replace("$instance", nodes)
        .replace("$deploy_name", ".*")
    )
    assert "$" not in filled
    return filled


def _loaded(prometheus: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]


def _are_healthy(prometheus: Prometheus) -> bool:
    return all(rule["health"] == "ok" for rule in _loaded(prometheus))
