"""compose.yaml follows its schema, mounts files that exist, and starts the server."""

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


def test_a_stopped_container_has_time_to_finish_its_calls() -> None:
    grace_s = float(SERVICES["sayso"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > DEFAULTS["drain_s"].default
