"""What several systems measured on the same trials: the target, tables in Markdown, and JSON."""

import re
from dataclasses import dataclass
from typing import Any

from benchmarks import figures as results
from benchmarks.accuracy.systems import POOLED, SettingRow
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


def judge_target(rows: list[SettingRow], judged: str) -> list[Verdict]:
    """Better than the reference cross-channel on telephone and noise, and at most 1.5 times its
    EER on clean trials, at 3 s of the heard side's net speech."""
    return [
        _verdict(row, judged)
        for row in rows
        if row.speech_s == TARGET_S
        and (row.setting.cross_channel or row.setting.condition == "clean")
    ]


def _verdict(row: SettingRow, judged: str) -> Verdict:
    ours, theirs = (row.figures[name][POOLED].eer.value for name in (judged, REFERENCE))
    ratio = WORST_RATIO if row.setting.condition == "clean" else 1.0
    holds = ours <= ratio * theirs if ratio > 1 else ours < theirs
    asked = f"at most {ratio:g} times" if ratio > 1 else "below"
    return Verdict(
        name_setting(row), asked, ours, theirs, holds, describe_difference(row.differences[judged])
    )


def name_setting(row: SettingRow) -> str:
    return f"{row.setting.condition}, {name_mode(row)}"


def name_mode(row: SettingRow) -> str:
    return "cross-channel" if row.setting.cross_channel else "as recorded"


VERDICTS = {
    "B is better": f"better than {REFERENCE}",
    "A is better": f"worse than {REFERENCE}",
    "no difference shown": "no difference shown",
}


def describe_difference(difference: Difference) -> str:
    """EER less the reference's, in points, with its interval, and what that allows to say."""
    low, high = difference.interval.low, difference.interval.high
    points = 100 * (difference.second - difference.first)
    said = VERDICTS[difference.verdict]
    return f"{points:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}): {said}"


def format_percent(figure: Figure) -> str:
    value = f"{100 * figure.value:.1f}%"
    if figure.interval is None:
        return value
    return f"{value} ({100 * figure.interval.low:.1f} to {100 * figure.interval.high:.1f})"


def format_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(rows) + " |" for rows in lines) + "\n"


def render_page(rows: list[SettingRow], names: list[str], sample: str) -> str:
    """The whole comparison as Markdown."""
    parts = [f"EER, with 95% intervals from a bootstrap over speakers and clips. {sample}\n"]
    found = judge_target(rows, names[0])
    lines = [
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
    parts.append(f"## Target\n\n{format_table(header, lines)}")
    for name in dict.fromkeys(name_mode(row) for row in rows):
        own = [row for row in rows if name_mode(row) == name]
        parts.append(f"## EER, {name}\n\n{_by_condition(own, names)}")
        parts.append(f"### Less {REFERENCE}, points\n\n{_differences(own, names)}")
        parts.append(f"### By corpus, all speech heard\n\n{_by_corpus(own, names)}")
    return "\n".join(parts)


def _by_condition(rows: list[SettingRow], names: list[str]) -> str:
    header = ["condition", "net speech heard", "targets, others", *names]
    return format_table(header, [_row(row, POOLED, names, row.length) for row in rows])


def _by_corpus(rows: list[SettingRow], names: list[str]) -> str:
    lines = [
        _row(row, group, names, group)
        for row in rows
        if row.speech_s is None
        for group in row.figures[names[0]]
        if group != POOLED
    ]
    return format_table(["condition", "corpus", "targets, others", *names], lines)


def _row(row: SettingRow, group: str, names: list[str], label: str) -> list[str]:
    figures: dict[str, Figures] = {name: row.figures[name][group] for name in names}
    some = figures[names[0]]
    count = f"{some.targets:,}, {some.nontargets:,}"
    return [
        row.setting.condition,
        label,
        count,
        *(format_percent(figures[name].eer) for name in names),
    ]


def _differences(rows: list[SettingRow], names: list[str]) -> str:
    others = [name for name in names if name != REFERENCE]
    lines = [
        [
            row.setting.condition,
            row.length,
            *(describe_difference(row.differences[name]) for name in others),
        ]
        for row in rows
    ]
    return format_table(["condition", "net speech heard", *others], lines)


def list_figures(rows: list[SettingRow], names: list[str], sample: str) -> list[results.Figure]:
    """The EER of each system on all speech, in per cent, for benchmarks/results/systems.json.

    The first model is `ours`; the name of another loses the digest at its end, so that it stays.
    The spread is the 95% interval.
    """
    keys = {name: _make_key(name) for name in names} | {names[0]: "ours"}
    listed = []
    for row in rows:
        for name, key in keys.items():
            eer = row.figures[name][POOLED].eer
            if row.speech_s is None and eer.interval is not None:
                title = f"systems_{name_setting(row)}_{key}"
                how = f"EER of {name}, {name_setting(row)}; 95% interval; {sample}"
                percent = [100 * one for one in (eer.interval.low, eer.value, eer.interval.high)]
                made = results.figure(_make_key(title), percent, "%", None, how)
                listed.append(made | {"value": round(percent[1], 3)})
    return listed


def _make_key(name: str) -> str:
    """A name in lower case, of words joined by `_`, without a digest at its end."""
    plain = re.sub(r"-[0-9a-f]{12}$", "", name)
    return re.sub(r"\W+", "_", plain).lower()


def make_document(rows: list[SettingRow], names: list[str], sample: str) -> dict[str, Any]:
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
            for one in judge_target(rows, names[0])
        ],
        "cells": [
            {
                "condition": row.setting.condition,
                "mode": name_mode(row),
                "speech_s": row.speech_s,
                "figures": {
                    name: {group: _figure(figures) for group, figures in groups.items()}
                    for name, groups in row.figures.items()
                },
                "less_reference": {
                    name: {
                        "points": difference.second - difference.first,
                        "low": difference.interval.low,
                        "high": difference.interval.high,
                        "verdict": describe_difference(difference),
                    }
                    for name, difference in row.differences.items()
                },
            }
            for row in rows
        ],
    }


def _figure(figures: Figures) -> dict[str, Any]:
    interval = figures.eer.interval
    return {
        "eer": figures.eer.value,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "min_dcf_0.01": figures.min_dcf[0.01].value,
        "targets": figures.targets,
        "nontargets": figures.nontargets,
        "speakers": figures.speakers,
    }
