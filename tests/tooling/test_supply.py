"""`make audit` says how much it could check."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CHECKED = {"name": "numpy", "version": "2", "vulns": []}
VULNERABLE = {"name": "idna", "version": "2.6", "vulns": [{"id": "PYSEC-1"}]}
SKIPPED = {"name": "redis", "skip_reason": "not found"}


def run_make(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-f", ROOT / "Makefile", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def run_audit(folder: Path, status: int, dependencies: list[object] | None) -> tuple[int, str]:
    """Exit status and output of `make audit` if pip-audit exits with `status` and this report."""
    report = folder / "report.json"
    report.write_text(json.dumps({"dependencies": dependencies}))
    write = "" if dependencies is None else f'cp {report} "$2"\n'
    tool = folder / "pip-audit"
    tool.write_text(
        '#!/bin/sh\necho trouble >&2\nwhile [ "$1" != --output ]; do shift; done\n'
        f"{write}exit {status}\n"
    )
    tool.chmod(0o755)
    ended = run_make("audit", f"PIP_AUDIT={tool}", folder=folder)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize(("status", "dependencies"), [(1, None), (0, [SKIPPED]), (0, [])])
def test_an_index_without_advisories_is_reported(
    tmp_path: Path, status: int, dependencies: list[object] | None
) -> None:
    status, output = run_audit(tmp_path, status, dependencies)
    assert status == 0
    assert "NOTHING was checked" in output


def test_an_audit_says_how_much_it_has_checked(tmp_path: Path) -> None:
    status, output = run_audit(tmp_path, 0, [CHECKED, CHECKED, SKIPPED])
    assert status == 0
    assert "2 packages checked, 1 that" in output


def test_a_vulnerability_fails_the_audit(tmp_path: Path) -> None:
    status, output = run_audit(tmp_path, 1, [CHECKED, VULNERABLE])
    assert status != 0
    assert "trouble" in output
