"""docs/contributing.md sends a contributor to files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`([\w.]+/[\w./]*|[A-Z]\w+|\w+\.(?:toml|md))`", PAGE)))
NAMES = sorted(set(re.findall(r"`([A-Z]\w+)` (?:in|of) `([\w./]+\.py)`", PAGE)))


def rows() -> dict[str, str]:
    """The second cell of each row of the table "To add X", by the first."""
    table = PAGE.partition("| to add | touch |\n|---|---|\n")[2].partition("\n\n")[0]
    return dict(line.strip("| ").split(" | ", 1) for line in table.splitlines())


def test_the_table_says_where_each_kind_of_part_goes() -> None:
    wanted = {
        *("a codec", "an rpc", "a store", "a loss", "a metric", "an encoder", "a setting", "a role")
    }
    assert wanted <= set(rows())
    assert all("`tests/" in row or "`Makefile`" in row for row in rows().values())


@pytest.mark.parametrize("path", [path for path in PATHS if "/" in path or "." in path])
def test_each_path_of_the_page_exists(path: str) -> None:
    found = ROOT / path
    assert found.is_dir() if path.endswith("/") else found.is_file()


@pytest.mark.parametrize(("name", "path"), NAMES)
def test_each_name_is_in_the_file_that_the_page_says(name: str, path: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8"))
