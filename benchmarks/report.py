"""Writes what the benchmarks measured into the README and docs/benchmarks.md.

    python -m benchmarks.report

What stands between the marks comes from benchmarks/results alone; figures with a target go into the
README, all of them into the page. A target that was missed stays, as missed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import pages
from benchmarks.claims import SAID
from benchmarks.figures import RESULTS, Figure

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"
PLACES = 4
COMMANDS = {"attack": "attack", "gpu": "gpu-check", "soak": "soak"}  # others: bench- and the name

Results = Mapping[str, Sequence[Figure]]  # by the name of the benchmark


def results(folder: Path = RESULTS) -> Results:
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def summary(found: Results) -> str:
    """Every figure that is held to a target, under the command that measures it again."""
    lines = ["| measured | value | target | |", "|---|---|---|---|"]
    for name, figures in found.items():
        held = [one for one in figures if one["target"] is not None]
        if held:
            lines.append(f"| **`make {COMMANDS.get(name, f'bench-{name}')}`** | | | |")
        for one in held:
            verdict = "holds" if one["holds"] else "**missed**"
            said = SAID.get(one["name"], title(one))
            cells = (said, value(one), told(one["target"], one["unit"]), verdict)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def whole(found: Results) -> str:
    """Every figure, how it was measured and how far it spread."""
    lines = []
    for name, figures in found.items():
        lines += [f"## {name.capitalize().replace('_', ' ')}", ""]
        lines += ["| figure | value | spread | target | how |", "|---|---|---|---|---|"]
        for one in figures:
            cells = (title(one), value(one), spread(one), target(one), one["how"].replace("|", "/"))
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def title(one: Figure) -> str:
    return str(one["name"]).replace("_", " ")


def value(one: Figure) -> str:
    return told(one["value"], one["unit"])


def told(number: float, unit: str) -> str:
    text = f"{number:.{PLACES}g}" if abs(number) < 10**PLACES else f"{number:,.0f}"
    return f"{text} {unit}"


def spread(one: Figure) -> str:
    if one["spread"] is None:
        return ""
    low, high = one["spread"]
    return f"{low:.{PLACES}g} to {high:.{PLACES}g}"


def target(one: Figure) -> str:
    if one["target"] is None:
        return ""
    return f"{told(one['target'], one['unit'])}: {'holds' if one['holds'] else '**missed**'}"


def main() -> None:
    found = results()
    for page, inner in ((README, summary(found)), (PAGE, whole(found))):
        pages.write_section(page, BEGIN, END, inner)
        print(f"{page.relative_to(ROOT)}: {inner.count(chr(10))} lines")


if __name__ == "__main__":
    main()
