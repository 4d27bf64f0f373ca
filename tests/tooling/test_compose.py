"""compose.yaml follows its schema and agrees with the files it mounts and with the server."""

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
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def list_mounts(service: str) -> list[tuple[str, str]]:
    """`(source, target)` of the volumes of a service."""
    return [tuple(volume.split(":")[:2]) for volume in SERVICES[service].get("volumes", [])]


def test_the_specification_allows_it() -> None:
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
def test_every_mounted_file_and_every_name_exists(name: str) -> None:
    for source, _ in list_mounts(name):
        if source.startswith("."):
            assert (ROOT / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]
    assert set(SERVICES[name].get("secrets", [])) <= COMPOSE["secrets"].keys()
    assert set(SERVICES[name]["networks"]) <= COMPOSE["networks"].keys()
    assert set(SERVICES[name].get("depends_on", {})) <= SERVICES.keys()


def test_redis_starts_by_a_script_of_the_project() -> None:
    (program,) = SERVICES["redis"]["entrypoint"]
    ((source, target),) = [
        mount for mount in list_mounts("redis") if program.startswith(f"{mount[1]}/")
    ]
    script = ROOT / source / Path(program).relative_to(target)
    assert script.stat().st_mode & stat.S_IXUSR


def test_the_server_reads_the_password_from_its_file(tmp_path: Path) -> None:
    """The command line runs as it is, with a password file and a `sayso` that prints its store."""
    (tmp_path / "redis_password").write_text("5e0f\n")
    stub = tmp_path / "sayso"
    stub.write_text('#!/bin/sh\necho "$1 $SAYSO_STORE"\n')
    stub.chmod(0o755)
    service = SERVICES["sayso"]
    (command,) = service["command"]
    assert "$" not in command.replace("$$", ""), "compose would substitute it"
    line = command.replace("$$", "$").replace("/run/secrets", str(tmp_path))
    printed = subprocess.run(
        [*service["entrypoint"], line],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout == "serve redis://sayso:5e0f@redis:6379/0\n"


def test_prometheus_scrapes_the_servers_and_grafana_asks_prometheus() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    port = SERVICES["sayso"]["environment"]["SAYSO_METRICS_LISTEN"].rpartition(":")[2]
    (job,) = prometheus["scrape_configs"]
    assert re.search(rf"\bsayso\b.*\b{port}\b", str(job))
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    service, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    assert any(published.endswith(f":{port}") for published in SERVICES[service]["ports"])
    (provider,) = yaml.safe_load((provisioning / "dashboards/sayso.yml").read_text())["providers"]
    assert provider["options"]["path"] in [target for _, target in list_mounts("grafana")]


def test_a_stopped_container_has_time_to_finish_its_calls() -> None:
    grace_s = float(SERVICES["sayso"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > DEFAULTS["drain_s"].default
