"""compose.yaml: to its schema, hardened, and of one mind with the files that it mounts."""

import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deployed_settings import DEFAULTS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def mounts(service: str) -> list[tuple[str, str]]:
    """`(source, target)` of the volumes of a service."""
    return [tuple(each.split(":")[:2]) for each in SERVICES[service].get("volumes", [])]


def test_it_is_what_the_specification_allows() -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", ROOT / "compose.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_change_nothing_but_its_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "pid", "ipc", "network_mode"}


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_and_named_is_there(name: str) -> None:
    for source, _ in mounts(name):
        if source.startswith("."):
            assert (ROOT / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]
    assert set(SERVICES[name].get("secrets", [])) <= COMPOSE["secrets"].keys()
    assert set(SERVICES[name]["networks"]) <= COMPOSE["networks"].keys()
    assert set(SERVICES[name].get("depends_on", {})) <= SERVICES.keys()


def test_only_this_machine_can_reach_what_is_published() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_redis_is_reached_by_the_servers_alone() -> None:
    assert COMPOSE["networks"]["store"]["internal"] is True
    assert SERVICES["redis"]["networks"] == ["store"]
    assert [name for name in SERVICES if "store" in SERVICES[name]["networks"]] == [
        "sayso",
        "redis",
    ]


def test_redis_starts_with_the_users_of_the_project() -> None:
    (program,) = SERVICES["redis"]["entrypoint"]
    ((source, target),) = [mount for mount in mounts("redis") if program.startswith(mount[1])]
    script = ROOT / source / Path(program).relative_to(target)
    assert script.stat().st_mode & stat.S_IXUSR
    assert "/run/secrets/redis_password" in script.read_text()
    assert SERVICES["redis"]["secrets"] == ["redis_password"]


def test_the_server_is_told_the_password_by_its_file(tmp_path: Path) -> None:
    """The command line runs as it is, with a file of ours and a `sayso` that tells its store."""
    (tmp_path / "redis_password").write_text("5e0f\n")
    stub = tmp_path / "sayso"
    stub.write_text('#!/bin/sh\necho "$1 $SAYSO_STORE"\n')
    stub.chmod(0o755)
    service = SERVICES["sayso"]
    (command,) = service["command"]
    assert "$" not in command.replace("$$", ""), "compose would fill it in"
    line = command.replace("$$", "$").replace("/run/secrets", str(tmp_path))
    said = subprocess.run(
        [*service["entrypoint"], line],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "serve redis://sayso:5e0f@redis:6379/0\n"


def test_no_secret_is_kept_with_the_project() -> None:
    folder = ROOT / "deploy" / "secrets"
    for secret in COMPOSE["secrets"].values():
        assert (ROOT / secret["file"]).parent == folder
    assert "\n*\n" in (folder / ".gitignore").read_text()


def test_prometheus_reads_the_servers_and_grafana_reads_prometheus() -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    port = SERVICES["sayso"]["environment"]["SAYSO_METRICS_LISTEN"].rpartition(":")[2]
    (job,) = scraped["scrape_configs"]
    assert re.search(rf"\bsayso\b.*\b{port}\b", str(job))
    assert {"metrics"} <= set(SERVICES["sayso"]["networks"])
    assert {"metrics"} <= set(SERVICES["prometheus"]["networks"])
    (source,) = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (dashboards,) = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/dashboards/sayso.yml").read_text()
    )["providers"]
    assert dashboards["options"]["path"] in [target for _, target in mounts("grafana")]


def test_a_stopped_container_has_the_time_to_finish_its_calls() -> None:
    grace_s = float(SERVICES["sayso"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > DEFAULTS["drain_s"].default
