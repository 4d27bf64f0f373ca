"""Wheels of this checkout, and environments that hold nothing else."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.sayso_server import ROOT

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
CONSTRAINTS = ("--constraint", ROOT / "constraints.txt")


def run(*command: object, folder: Path) -> str:
    """Run a command in an environment without the checkout; returns what it prints."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def environment() -> dict[str, str]:
    """Ours, without what would make the checkout importable or configure a server."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" and not name.startswith("SAYSO_")
    }


def build_wheel(project: Path, folder: Path) -> Path:
    """Build the wheel of the project in that folder of the checkout, into `folder`."""
    before = set(folder.glob("*.whl"))
    run(*PIP, "wheel", "--no-deps", "--wheel-dir", folder, project, folder=folder)
    (wheel,) = set(folder.glob("*.whl")) - before
    return wheel


def make_environment(folder: Path, *requirements: object) -> Path:
    """Make a virtual environment `folder/venv` with these requirements; returns its folder."""
    venv = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, folder=folder)
    install(venv, *requirements)
    return venv


def install(venv: Path, *requirements: object) -> None:
    python = venv / "bin" / "python"
    run(*PIP, "--python", python, "install", *CONSTRAINTS, *requirements, folder=venv)
