"""The project's own manifests, joined."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data import manifest
from training.data.manifest import Row


def plain(root: Path) -> Iterator[Row]:
    """manifest.csv files, in the root or below it; or the root is such a file itself."""
    paths = [root] if root.is_file() else sorted(root.rglob("manifest.csv"))
    for path in paths:
        yield from manifest.read(path)
