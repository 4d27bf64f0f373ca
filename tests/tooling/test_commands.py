"""Every `make` command in the documents, in CI and in the hooks is a target of the Makefile."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"^```.*?^```|`[^`]+`", re.MULTILINE | re.DOTALL)


def find_commands(text: str) -> set[str]:
    """The targets of the `make` commands in a text."""
    return set(re.findall(r"\bmake\s+([a-z][a-z-]*)", text))


def test_commands_are_found_in_code_and_not_in_prose() -> None:
    text = "We make do.\n```sh\nmake demo\nA=b make test ARGS=-x\n```\nthen `make\nlint`.\n"
    assert find_commands("".join(CODE.findall(text))) == {"demo", "test", "lint"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_documented_command_is_a_target(path: Path) -> None:
    assert find_commands("".join(CODE.findall(path.read_text()))) <= TARGETS


@pytest.mark.parametrize("name", [".ci/run", ".pre-commit-config.yaml"])
def test_an_automated_command_is_a_target(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    commands = find_commands("\n".join(line for line in lines if not line.startswith("#")))
    assert commands
    assert commands <= TARGETS


def test_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert find_commands(listed.stdout) == TARGETS
