"""`sayso info --env`: a file that gives the same settings again, and shows no secret."""

import shlex

import pytest
from typer.testing import CliRunner

from service.commands.application import app
from service.settings import Settings, list_variables


def print_environment() -> str:
    ended = CliRunner().invoke(app, ["info", "--env"])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_the_file_gives_the_same_settings_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SAYSO_WORKERS": "3",
        "SAYSO_REFLECTION": "false",
        "SAYSO_DUPLICATES": "flag",
        "SAYSO_AUDIT": "/var/lib/audit of the bank",
        "SAYSO_TARGET_FALSE_MATCH_RATE": "0.005",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings.read()
    printed = print_environment().splitlines()
    entries = [line for line in printed if line and not line.startswith("#")]
    for name in list_variables():
        monkeypatch.delenv(name, raising=False)
    assert Settings.read() != settings
    for entry in entries:
        (plain,) = shlex.split(entry)
        monkeypatch.setenv(*plain.split("=", 1))
    assert Settings.read() == settings
    assert len(entries) == 5


def test_every_setting_is_in_it_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_MASTER_KEYS", "hunter2")
    monkeypatch.setenv("SAYSO_STORE", "redis://user:hunter3@store:6379/0")
    printed = print_environment()
    assert not [name for name in list_variables() if name not in printed]
    assert "# SAYSO_MASTER_KEYS is set, and not shown" in printed
    assert "hunter" not in printed


def test_a_mistake_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_WORKERS", "many")
    ended = CliRunner().invoke(app, ["info", "--env"])
    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: SAYSO_WORKERS")
