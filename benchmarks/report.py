"""Write what the benchmarks measured into the README and docs/benchmarks.md.

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


def read_results(folder: Path = RESULTS) -> Results:
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def render_summary(found: Results) -> str:
    """Every figure that is held to a target, under the command that measures it again."""
    lines = ["| measured | value | target | |", "|---|---|---|---|"]
    for name, figures in found.items():
        targeted = [one for one in figures if one["target"] is not None]
        if targeted:
            lines.append(f"| **`make {COMMANDS.get(name, f'bench-{name}')}`** | | | |")
        for one in targeted:
            verdict = "holds" if one["holds"] else "**missed**"
            said = SAID.get(one["name"], format_title(one))
            cells = (said, format_value(one), format_number(one["target"], one["unit"]), verdict)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def render_all(found: Results) -> str:
    """Tabulate every figure, how it was measured and its spread."""
    lines = []
    for name, figures in found.items():
        lines += [f"## {name.capitalize().replace('_', ' ')}", ""]
        lines += ["| figure | value | spread | target | how |", "|---|---|---|---|---|"]
        for one in figures:
            cells = (
                format_title(one),
                format_value(one),
                format_spread(one),
                format_target(one),
                one["how"].replace("|", "/"),
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def format_title(one: Figure) -> str:
    return str(one["name"]).replace("_", " ")


def format_value(one: Figure) -> str:
    return format_number(one["value"], one["unit"])


def format_number(number: float, unit: str) -> str:
    text = f"{number:.{PLACES}g}" if abs(number) < 10**PLACES else f"{number:,.0f}"
    return f"{text} {unit}"


def format_spread(one: Figure) -> str:
    if one["spread"] is None:
        return ""
    low, high = one["spread"]
    return f"{low:.{PLACES}g} to {high:.{PLACES}g}"


def format_target(one: Figure) -> str:
    if one["target"] is None:
        return ""
    return (
        f"{format_number(one['target'], one['unit'])}: {'holds' if one['holds'] else '**missed**'}"
    )


def main() -> None:
    found = read_results()
    for page, inner in ((README, render_summary(found)), (PAGE, render_all(found))):
        pages.write_section(page, BEGIN, END, inner)
        print(f"{page.relative_to(ROOT)}: {inner.count(chr(10))} lines")


if __name__ == "__main__":
    main()
