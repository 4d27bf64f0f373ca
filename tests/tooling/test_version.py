"""The client and the server are released together, under one version."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import sayso

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_server_requires_the_client_of_its_version() -> None:
    assert f"sayso-client=={sayso.__version__}" in PROJECT["dependencies"]


def test_both_distributions_are_of_it() -> None:
    assert version("sayso") == version("sayso-client") == sayso.__version__


def test_both_have_one_licence() -> None:
    assert (ROOT / "client" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
