"""Dashboard, alerts and docs/operate/monitoring.md name the metrics that the service exposes."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.declared_metrics import list_gateway_metrics, list_metrics

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
ALERTS = [PROMETHEUS / "alerts.yml", PROMETHEUS / "gateway-alerts.yml"]
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
METRICS = [*list_metrics(), *list_gateway_metrics()]
PAGE = ROOT / "docs/operate/monitoring.md"

FUNCTIONS = {"sum", "max", "rate", "increase", "histogram_quantile", "abs", "vector"}
WORDS = {"and", "offset", "group_left"}
TARGET_LABELS = {"job", "instance"}
LABELS = {sample: set(metric.labels) for metric in METRICS for sample in metric.samples}

_GROUPING = re.compile(r"\b(?:by|ignoring|group_left)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
_NAME = re.compile(r"(?<![\w$.])[a-zA-Z_:][\w:]*")


def read_rules() -> list[dict[str, Any]]:
    files = (yaml.safe_load(path.read_text()) for path in ALERTS)
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


RECORDED = {rule["record"] for rule in read_rules() if "record" in rule}
EXPOSED = {**LABELS, **{name: {"model_id", "outcome", "le"} for name in RECORDED}, "up": set()}


def read_panels() -> list[dict[str, Any]]:
    dashboards = (json.loads(path.read_text()) for path in DASHBOARDS)
    panels = (panel for dashboard in dashboards for panel in dashboard["panels"])
    return [panel for panel in panels if panel["type"] != "row"]


def read_expressions() -> Iterator[tuple[str, str]]:
    for rule in read_rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in read_panels():
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


def find_series(expression: str) -> set[str]:
    """The series that a PromQL expression reads."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|offset \w+', " ", _GROUPING.sub(" ", expression))
    return set(_NAME.findall(bare)) - FUNCTIONS - WORDS


@pytest.mark.parametrize(("title", "expression"), list(read_expressions()))
def test_expressions_read_series_and_labels_that_exist(title: str, expression: str) -> None:
    series = find_series(expression)
    assert series <= EXPOSED.keys(), title
    assert series or "vector" in expression
    known = {"le", *TARGET_LABELS}.union(*(EXPOSED[name] for name in series))
    for name, selectors in _SELECTOR.findall(expression):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selectors))
        assert labels <= EXPOSED[name] | {"le"} | TARGET_LABELS, f"{title}: {name}"
    for group in _GROUPING.findall(expression):
        assert {label.strip() for label in group.split(",") if label.strip()} <= known, title


def test_a_series_that_does_not_exist_is_found() -> None:
    assert find_series('sum by (le) (rate(sayso_gone_total{x="y"}[5m] offset 1w)) > 0.5') == {
        "sayso_gone_total"
    }


def test_every_metric_is_on_the_dashboard() -> None:
    targets = [target for panel in read_panels() for target in panel["targets"]]
    shown = set().union(*(find_series(target["expr"]) for target in targets))
    assert [metric.name for metric in METRICS if not shown & set(metric.samples)] == []


def test_the_page_says_what_to_do_about_each_alert() -> None:
    page = PAGE.read_text()
    alerts = [rule["alert"] for rule in read_rules() if "alert" in rule]
    assert alerts
    assert [alert for alert in alerts if alert not in page] == []


def test_the_page_lists_the_metrics() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE))
    assert rows == {
        metric.name: f"{metric.kind} | {', '.join(metric.labels)} | {metric.meaning}"
        for metric in METRICS
    }


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on PATH; Debian's package prometheus has it")
    return found


def test_promtool_accepts_the_configuration(promtool: str) -> None:
    subprocess.run([promtool, "check", "config", PROMETHEUS / "prometheus.yml"], check=True)


@pytest.mark.parametrize("name", ["alerts_cases.yml", "drift_cases.yml"])
def test_alerts_fire_when_they_should(promtool: str, name: str) -> None:
    cases = Path(__file__).with_name(name)
    subprocess.run([promtool, "test", "rules", cases], check=True, timeout=60)


def test_promtool_reads_every_panel(promtool: str, tmp_path: Path) -> None:
    targets = [target for panel in read_panels() for target in panel["targets"]]
    rules = [
        {"record": f"panel:{at}", "expr": target["expr"].replace("$__rate_interval", "5m")}
        for at, target in enumerate(targets)
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    subprocess.run([promtool, "check", "rules", path], check=True)
