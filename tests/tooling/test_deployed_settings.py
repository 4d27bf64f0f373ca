"""Deployment files and documents name only settings that the server or its clients read."""

from pathlib import Path

import pytest

from tests.support.deployed_settings import find_unknown_names

ROOT = Path(__file__).resolve().parents[2]
PATHS = [
    *(ROOT / name for name in ("Dockerfile", "compose.yaml", "README.md", "SECURITY.md")),
    *sorted((ROOT / "deploy").rglob("*.yaml")),
    *sorted({*(ROOT / "docs").rglob("*.md")} - {ROOT / "docs/settings.md"}),
]
"""Without docs/settings.md, which is written from the code and names retired settings too."""


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_exists(path: Path) -> None:
    assert find_unknown_names(path.read_text()) == set()


def test_a_misspelled_setting_is_reported() -> None:
    text = "SAYSO_LISTEN=:1 SAYSO_LISTENS=:1 and SAYSO_LOCK_* but no SAYSO_LOK_*"
    assert find_unknown_names(text) == {"SAYSO_LISTENS", "SAYSO_LOK_"}
