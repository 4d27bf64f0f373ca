"""What the long runs saw: results.json, and the page that tells of it.

    python -m tests.reliability.results

writes what is between the marks of docs/operate/failures.md from results.json alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import pages, report
from benchmarks.figures import Aim, Figure, figure

RESULTS = Path(__file__).with_name("results.json")
PAGE = report.ROOT / "docs" / "operate" / "failures.md"


@dataclass(frozen=True, slots=True)
class Seen:
    """Takes figures; writes them where they are to be `kept`, in place of what had their name."""

    kept: bool

    def tell(
        self,
        section: str,
        name: str,
        values: Sequence[float],
        unit: str,
        how: str,
        aim: Aim | None = None,
    ) -> None:
        """The median of `values` and how far they spread, of a run that ends today."""
        told = figure(name, values, unit, aim, f"{how}; {datetime.now(UTC):%Y-%m-%d}")
        if self.kept:
            _replace(section, told)


def found() -> dict[str, list[Figure]]:
    if not RESULTS.exists():
        return {}
    held: dict[str, list[Figure]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return held


def page() -> str:
    """The page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    return pages.replace_section(text, report.BEGIN, report.END, report.render_all(found()))


def _replace(section: str, told: Figure) -> None:
    held = found()
    others = [one for one in held.get(section, []) if one["name"] != told["name"]]
    held[section] = [*others, told]
    RESULTS.write_text(json.dumps(dict(sorted(held.items())), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
