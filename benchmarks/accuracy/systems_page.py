"""What several systems measured on the same trials: the target, tables in Markdown, and JSON."""

from dataclasses import dataclass
from typing import Any

from benchmarks.accuracy.systems import POOLED, Cell
from evaluation.metrics.comparison import Difference
from evaluation.metrics.figures import Figure, Figures

REFERENCE = "Resemblyzer"
TARGET_S = 3.0
WORST_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """One part of the target: what was asked of the first model's EER, and whether it is so."""

    trials: str
    asked: str
    ours: float
    theirs: float
    holds: bool
    shown: str


def verdicts(cells: list[Cell], judged: str) -> list[Verdict]:
    """Better than the reference cross-channel on telephone and noise, and at most 1.5 times its
    EER on clean trials, at 3 s of the heard side's net speech."""
    return [
        _verdict(cell, judged)
        for cell in cells
        if cell.speech_s == TARGET_S
        and (cell.setting.cross_channel or cell.setting.condition == "clean")
    ]


def _verdict(cell: Cell, judged: str) -> Verdict:
    ours, theirs = (cell.figures[name][POOLED].eer.value for name in (judged, REFERENCE))
    ratio = WORST_RATIO if cell.setting.condition == "clean" else 1.0
    holds = ours <= ratio * theirs if ratio > 1 else ours < theirs
    asked = f"at most {ratio:g} times" if ratio > 1 else "below"
    return Verdict(told(cell), asked, ours, theirs, holds, less_reference(cell.differences[judged]))


def told(cell: Cell) -> str:
    return f"{cell.setting.condition}, {mode(cell)}"


def mode(cell: Cell) -> str:
    return "cross-channel" if cell.setting.cross_channel else "as recorded"


VERDICTS = {
    "B is better": f"better than {REFERENCE}",
    "A is better": f"worse than {REFERENCE}",
    "no difference shown": "no difference shown",
}


def less_reference(difference: Difference) -> str:
    """EER less the reference's, in points, with its interval, and what that allows to say."""
    low, high = difference.interval.low, difference.interval.high
    points = 100 * (difference.second - difference.first)
    said = VERDICTS[difference.verdict]
    return f"{points:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}): {said}"


def percent(figure: Figure) -> str:
    value = f"{100 * figure.value:.1f}%"
    if figure.interval is None:
        return value
    return f"{value} ({100 * figure.interval.low:.1f} to {100 * figure.interval.high:.1f})"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def page(cells: list[Cell], names: list[str], sample: str) -> str:
    """The whole comparison as Markdown."""
    parts = [f"EER, with 95% intervals from a bootstrap over speakers and clips. {sample}\n"]
    found = verdicts(cells, names[0])
    rows = [
        [
            one.trials,
            f"{one.asked} {REFERENCE}'s",
            f"{100 * one.ours:.1f}%",
            f"{100 * one.theirs:.1f}%",
            "held" if one.holds else "missed",
            one.shown,
        ]
        for one in found
    ]
    header = [f"at {TARGET_S:g} s", "target", names[0], REFERENCE, "", "difference in EER, points"]
    parts.append(f"## Target\n\n{table(header, rows)}")
    for name in dict.fromkeys(mode(cell) for cell in cells):
        own = [cell for cell in cells if mode(cell) == name]
        parts.append(f"## EER, {name}\n\n{_by_condition(own, names)}")
        parts.append(f"### Less {REFERENCE}, points\n\n{_differences(own, names)}")
        parts.append(f"### By corpus, all speech heard\n\n{_by_corpus(own, names)}")
    return "\n".join(parts)


def _by_condition(cells: list[Cell], names: list[str]) -> str:
    header = ["condition", "net speech heard", "targets, others", *names]
    return table(header, [_row(cell, POOLED, names, cell.length) for cell in cells])


def _by_corpus(cells: list[Cell], names: list[str]) -> str:
    rows = [
        _row(cell, group, names, group)
        for cell in cells
        if cell.speech_s is None
        for group in cell.figures[names[0]]
        if group != POOLED
    ]
    return table(["condition", "corpus", "targets, others", *names], rows)


def _row(cell: Cell, group: str, names: list[str], label: str) -> list[str]:
    figures: dict[str, Figures] = {name: cell.figures[name][group] for name in names}
    some = figures[names[0]]
    count = f"{some.targets:,}, {some.nontargets:,}"
    return [
        cell.setting.condition,
        label,
        count,
        *(percent(figures[name].eer) for name in names),
    ]


def _differences(cells: list[Cell], names: list[str]) -> str:
    others = [name for name in names if name != REFERENCE]
    rows = [
        [
            cell.setting.condition,
            cell.length,
            *(less_reference(cell.differences[name]) for name in others),
        ]
        for cell in cells
    ]
    return table(["condition", "net speech heard", *others], rows)


def document(cells: list[Cell], names: list[str], sample: str) -> dict[str, Any]:
    return {
        "sample": sample,
        "systems": names,
        "reference": REFERENCE,
        "target": [
            {
                "name": f"EER at {TARGET_S:g} s, {one.trials}",
                "value": one.ours,
                "reference": one.theirs,
                "target": f"{one.asked} {REFERENCE}'s",
                "holds": one.holds,
                "how": one.shown,
            }
            for one in verdicts(cells, names[0])
        ],
        "cells": [
            {
                "condition": cell.setting.condition,
                "mode": mode(cell),
                "speech_s": cell.speech_s,
                "figures": {
                    name: {group: _figure(figures) for group, figures in groups.items()}
                    for name, groups in cell.figures.items()
                },
                "less_reference": {
                    name: {
                        "points": difference.second - difference.first,
                        "low": difference.interval.low,
                        "high": difference.interval.high,
                        "verdict": less_reference(difference),
                    }
                    for name, difference in cell.differences.items()
                },
            }
            for cell in cells
        ],
    }


def _figure(figures: Figures) -> dict[str, Any]:
    held = figures.eer.interval
    return {
        "eer": figures.eer.value,
        "low": None if held is None else held.low,
        "high": None if held is None else held.high,
        "min_dcf_0.01": figures.min_dcf[0.01].value,
        "targets": figures.targets,
        "nontargets": figures.nontargets,
        "speakers": figures.speakers,
    }
