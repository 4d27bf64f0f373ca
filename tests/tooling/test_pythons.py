"""The Python versions that are supported, and how `make` picks one of those installed."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = SpecifierSet(PROJECT["requires-python"])
SUPPORTED = [f"3.{minor}" for minor in range(9, 20) if f"3.{minor}" in REQUIRED]


def test_the_classifiers_list_the_supported_versions() -> None:
    prefix = "Programming Language :: Python :: 3."
    listed = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if line.startswith(prefix)]
    assert listed == SUPPORTED


def test_an_interpreter_that_does_not_start_is_passed_over(tmp_path: Path) -> None:
    """A version manager leaves a `python3.11` behind that fails once that version is removed."""
    (tmp_path / "python3.11").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.11").chmod(0o755)
    (tmp_path / "python3.13").symlink_to(sys.executable)
    printed = subprocess.run(
        ["make", "--silent", "--eval", "which: ; @echo $(PYTHON)", "which"],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() == str(tmp_path / "python3.13")
