"""Write what the benchmarks measured into README, docs/benchmarks.md and docs/operate/sizing.md.

    python -m benchmarks.report

What stands between the marks comes from result files and generated pages alone. The README shows
the figures listed in HEADLINES; the page shows every target, also missed ones, and every figure.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import pages, sizing
from benchmarks.claims import SAID
from benchmarks.figures import RESULTS, Figure

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"
SIZING = ROOT / "docs" / "operate" / "sizing.md"
SIZING_BEGIN, SIZING_END = "<!-- sizing: begin -->\n", "<!-- sizing: end -->\n"
PLACES = 4
COMMANDS = {
    "attack": "attack",
    "gpu": "gpu-check",
    "households": "household-figures",
    "soak": "soak",
    "spoofing": "spoofing-figures",
    "systems": "compare-systems",
}  # others: bench- and the name

DECISIONS = ROOT / "docs" / "integrate" / "decisions.md"
RELIABILITY = ROOT / "tests" / "reliability" / "results.json"

Results = Mapping[str, Sequence[Figure]]  # by the name of the benchmark


@dataclass(frozen=True, slots=True)
class Headline:
    """A row of the README's table; `ours` and `beside` are formats of figures, by their names."""

    said: str
    ours: str
    beside: str


HEADLINES: Sequence[Headline] = (
    Headline(
        "equal error rate, telephone, each side through a line of its own",
        "{systems_telephone_cross_channel_ours:.1f}%",
        "adopted CAM++ {systems_telephone_cross_channel_3d_speaker_campp:.1f}%, "
        "Resemblyzer {systems_telephone_cross_channel_resemblyzer:.1f}%",
    ),
    Headline(
        "the same, clean as recorded",
        "{systems_clean_as_recorded_ours:.1f}%",
        "adopted CAM++ {systems_clean_as_recorded_3d_speaker_campp:.1f}%, "
        "Resemblyzer {systems_clean_as_recorded_resemblyzer:.1f}%",
    ),
    Headline(
        "net speech until half of the callers are decided; 1% asked of both errors",
        "{decided_median}",
        "false matches {decided_fmr}, false non-matches {decided_fnmr}",
    ),
    Headline(
        "calls followed in real time by one core",
        "{streaming_default_per_core:.0f}",
        "small model {streaming_small_per_core:.0f}",
    ),
    Headline(
        "`Verify` at half load, median and p99",
        "{latency_at_50_p50:.0f} and {latency_at_50_p99:.0f} ms",
        "decoding and inference alone {latency_bare:.0f} ms",
    ),
    Headline(
        "memory of a server with 1,000 open calls",
        "{streaming_default_idle_resident:.0f} MB",
        "when it starts {default_start_resident:.0f} MB",
    ),
    Headline(
        "acknowledged enrollments lost in 400 SIGKILLs, SQLite and Redis",
        "{killed_on_sqlite_lost:.0f} and {killed_on_redis_lost:.0f}",
        "none may be",
    ),
    Headline(
        "exact search among a million voices",
        "{search_median:.0f} ms",
        "float32 products alone {search_float32_products:.0f} ms",
    ),
    Headline(
        "audio embedded in a second of processor time",
        "{peers_sayso_embedding:.0f} s",
        "SpeechBrain {peers_speechbrain:.0f} s, sherpa-onnx {peers_sherpa_onnx:.0f} s",
    ),
    Headline(
        "a stored voice computed from answers to the role `verify`: cosine",
        "{attack_answers_verify_cosine_768:.2f}",
        "without a call {attack_blind_cosine:.2f}, "
        "from scores {attack_scores_verify_cosine_768:.2f}",
    ),
    Headline(
        "targets that were missed",
        "{targets_missed}",
        "of {targets} that are set",
    ),
)
"""What the README shows, at most twelve rows: what a buyer asks first, good or bad."""


def read_results(folder: Path = RESULTS) -> Results:
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def read_headline_values(found: Results) -> dict[str, object]:
    """The value of each figure by its name, and the cells that HEADLINES takes from pages."""
    reliability = json.loads(RELIABILITY.read_text(encoding="utf-8"))
    figures = [one for group in (*found.values(), *reliability.values()) for one in group]
    verdicts = [one["holds"] for one in figures if one["target"] is not None]
    decisions = DECISIONS.read_text(encoding="utf-8")
    return {
        **{one["name"]: one["value"] for one in figures},
        "targets": len(verdicts),
        "targets_missed": verdicts.count(False),
        "decided_median": _read_decided(decisions, "median"),
        "decided_fmr": _read_decided(decisions, "false matches"),
        "decided_fnmr": _read_decided(decisions, "false non-matches"),
    }


def _read_decided(page: str, column: str) -> str:
    return _drop_interval(
        pages.read_cell(page, "## How soon it decides", "sequential, 1% and 1%", column)
    )


def _drop_interval(cell: str) -> str:
    """The estimate alone: "6.4% (1.2% to 13.3%), missed" is "6.4%"."""
    return cell.partition(" (")[0]


def render_headlines(found: Results) -> str:
    """The README's table: HEADLINES with their figures."""
    values = read_headline_values(found)
    lines = ["| measured | Sayso | beside it |", "|---|---|---|"]
    for row in HEADLINES:
        cells = (row.said, row.ours.format_map(values), row.beside.format_map(values))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def render_sizing(found: Results) -> str:
    """The tables of docs/operate/sizing.md."""
    return sizing.render_sizes(
        {one["name"]: one["value"] for group in found.values() for one in group}
    )


def render_page(found: Results) -> str:
    """What docs/benchmarks.md shows: the targets first, then every figure."""
    return f"## Targets\n\n{render_summary(found)}\n{render_all(found)}"


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
    for page, inner in ((README, render_headlines(found)), (PAGE, render_page(found))):
        pages.write_section(page, BEGIN, END, inner)
        print(f"{page.relative_to(ROOT)}: {inner.count(chr(10))} lines")
    pages.write_section(SIZING, SIZING_BEGIN, SIZING_END, render_sizing(found))


if __name__ == "__main__":
    main()
