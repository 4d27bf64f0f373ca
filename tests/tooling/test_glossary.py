"""docs/glossary.md is in alphabetical order, and the code has every name that it gives."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("service", "evaluation", "training", "exporters", "protos")
ROWS = re.findall(
    r"^\| ([^|]+) \| [^|]+ \| `(\w+)` \|$", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE
)


def test_every_row_has_a_name_and_the_words_are_in_order() -> None:
    page = (ROOT / "docs/glossary.md").read_text()
    assert len(ROWS) == page.count("\n|") - 2  # without the two lines of the table's head
    words = [word for word, _ in ROWS]
    assert words == sorted(set(words), key=str.casefold)


@pytest.mark.parametrize(("word", "name"), ROWS, ids=[word for word, _ in ROWS])
def test_the_code_has_the_name(word: str, name: str) -> None:
    command = ["git", "grep", "--quiet", "--word-regexp", "--fixed-strings", name, "--", *CODE]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, f"{word}: {name}"
