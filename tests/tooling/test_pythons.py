"""Which Pythons are promised, which the Makefile takes, and that both say the same."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()
PROMISED = ["3.11", "3.12", "3.13", "3.14"]


def test_what_is_promised() -> None:
    required = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{n}" for n in range(9, 20) if f"3.{n}" in required] == PROMISED
    prefix = "Programming Language :: Python :: 3."
    told = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if each.startswith(prefix)]
    assert told == PROMISED


def test_the_makefile_takes_the_same() -> None:
    assert "(3, 11) <= sys.version_info[:2] <= (3, 14)" in MAKEFILE
    assert "needs Python 3.11 to 3.14" in MAKEFILE
    (named,) = re.findall(r"^PYTHON .*foreach name,([^,]+),", MAKEFILE, re.MULTILINE)
    assert named.split() == [*(f"python{each}" for each in PROMISED), "python3"]


def test_a_newer_interpreter_is_found_beside_a_shim_that_starts_none(tmp_path: Path) -> None:
    """As a version manager leaves `python3.11` behind once that version is removed."""
    (tmp_path / "python3.11").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.11").chmod(0o755)
    (tmp_path / "python3.13").symlink_to(sys.executable)
    said = subprocess.run(
        ["make", "--silent", "--eval", "which: ; @echo $(PYTHON)", "which"],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == str(tmp_path / "python3.13")
