"""Dashboard, alerts and the page on operations name only what the service exposes."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.declared_metrics import declared

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
ALERTS = PROMETHEUS / "alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboards/sayso.json"
PAGE = ROOT / "docs/operations.md"

FUNCTIONS = {"sum", "max", "rate", "increase", "histogram_quantile", "abs", "vector"}
WORDS = {"and", "offset", "group_left"}
TARGET_LABELS = {"job", "instance"}
LABELS = {sample: set(each.labels) for each in declared() for sample in each.samples}

_GROUPING = re.compile(r"\b(?:by|ignoring|group_left)\s*\(([^)]*)\)")
_SELECTED = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
_NAME = re.compile(r"(?<![\w$.])[a-zA-Z_:][\w:]*")


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]


RECORDED = {rule["record"]: {"model_id", "outcome", "le"} for rule in rules() if "record" in rule}
EXPOSED = {**LABELS, **RECORDED, "up": set()}


def panels() -> list[dict[str, Any]]:
    return [each for each in json.loads(DASHBOARD.read_text())["panels"] if each["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in panels():
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


def names(expression: str) -> set[str]:
    """The series that a PromQL expression reads."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|offset \w+', " ", _GROUPING.sub(" ", expression))
    return set(_NAME.findall(bare)) - FUNCTIONS - WORDS


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_expressions_read_what_there_is(title: str, expression: str) -> None:
    read = names(expression)
    assert read <= EXPOSED.keys(), title
    assert read or "vector" in expression
    known = {"le", *TARGET_LABELS}.union(*(EXPOSED[name] for name in read))
    for name, selectors in _SELECTED.findall(expression):
        picked = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selectors))
        assert picked <= EXPOSED[name] | {"le"} | TARGET_LABELS, f"{title}: {name}"
    for grouped in _GROUPING.findall(expression):
        assert {label.strip() for label in grouped.split(",") if label.strip()} <= known, title


def test_a_name_that_does_not_exist_is_seen() -> None:
    assert names('sum by (le) (rate(sayso_gone_total{x="y"}[5m] offset 1w)) > 0.5') == {
        "sayso_gone_total"
    }


def test_every_metric_is_on_the_dashboard() -> None:
    shown = set().union(*(names(t["expr"]) for panel in panels() for t in panel["targets"]))
    assert [each.name for each in declared() if not shown & set(each.samples)] == []


def test_panels_neither_overlap_nor_share_an_id() -> None:
    every = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    for one, other in combinations((panel["gridPos"] for panel in every), 2):
        apart = any(
            a[at] + a[size] <= b[at]
            for a, b in ((one, other), (other, one))
            for at, size in (("x", "w"), ("y", "h"))
        )
        assert apart, (one, other)
    assert all(panel["description"] for panel in panels())


def test_alerts_say_what_is_wrong_and_how_urgent_it_is() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts)
    for rule in alerts:
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["alert"] in PAGE.read_text(), "docs/operations.md says what to do"


def test_the_page_lists_the_metrics() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE))
    assert rows == {
        each.name: f"{each.kind} | {', '.join(each.labels)} | {each.meaning}" for each in declared()
    }


def test_what_grafana_and_prometheus_are_given_refers_to_each_other() -> None:
    grafana = ROOT / "deploy/grafana/provisioning"
    [source] = yaml.safe_load((grafana / "datasources/prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((grafana / "dashboards/sayso.yml").read_text())["providers"]
    assert (source["type"], provider["type"]) == ("prometheus", "file")
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert config["rule_files"] == [ALERTS.name]
    assert [job["job_name"] for job in config["scrape_configs"]] == ["sayso"]


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
    targets = [target for panel in panels() for target in panel["targets"]]
    given = [
        {"record": f"panel:{at}", "expr": target["expr"].replace("$__rate_interval", "5m")}
        for at, target in enumerate(targets)
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": given}]}))
    subprocess.run([promtool, "check", "rules", path], check=True)
