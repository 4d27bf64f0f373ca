"""Score files of other systems.

    enrol test score                       with a trial list that says the truth
    enrol test target|nontarget score      on its own; ours have the LLR as a fifth
    enrol test 1|0 score                   SpeechBrain
    enrol test score target|nontarget      WeSpeaker

A header may name the columns, or the caller does; no column is guessed at or ignored. Plain or
gzip-compressed; an error names the line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError, ListError
from evaluation.trials import lists
from evaluation.trials.manifest import Clip, Speaker
from evaluation.trials.trial_table import (
    DIGITS,
    SAMPLE_LINES,
    TRUTH,
    Columns,
    TrialList,
    collect,
    find_header,
    read_fields,
)
from evaluation.trials.trials import Trials

Floats = NDArray[np.float64]

EXPECTED = (
    "expected `enrol test score` with a trial list, or `enrol test target score` (or `nontarget`,"
    " 1 or 0), or `enrol test score target`; say otherwise with --columns"
)
SKIPPED = "-"
_NAMES = ("enrol", "test", "label", "score")


@dataclass(frozen=True, slots=True)
class ScoreFile:
    """Trials and their `scores` (n,); a higher score means more alike."""

    trials: Trials
    scores: Floats


def read(
    path: Path,
    listed: Path | None = None,
    known: Mapping[str, Clip] | None = None,
    *,
    columns: str | None = None,
) -> ScoreFile:
    """A score file, its truth from its own label column or from the list `listed`.

    `columns` names the file's columns in their order, comma-separated: enrol, test, score, label,
    and `-` for one to leave alone. Speakers and labels are those of the manifest's clips `known`.
    ListError on a malformed line, a score that is not finite, a repeated trial, and on trials that
    only one of the two files has or that the two label differently.
    """
    lines = read_fields(path)
    sample = list(islice(lines, SAMPLE_LINES))
    if not sample:
        raise EvaluationError(f"{path}: there is no trial in it")
    header = find_header(path, sample[0][1], ("enrol", "test", "score"))
    if header is not None and columns is None:
        layout, width = header, len(sample.pop(0)[1])
    else:
        rows = [words for _, words in sample]
        layout = _parse_columns(columns) if columns else _find_layout(path, rows)
        width = len(columns.split(",")) if columns else len(rows[0])
    if "label" not in layout and listed is None:
        raise ListError(path, 1, f"there is no label in it: give the trial list too; {EXPECTED}")
    scored, scores = collect(path, chain(sample, lines), layout, width)
    if listed is not None:
        scored = _take_truth(path, scored, listed, lists.read(listed), labeled="label" in layout)
    clips = lists.make_clips(path, scored, audio=None)
    return ScoreFile(
        lists.make_trials(path, scored, _add_known_speakers(clips, known or {})), scores
    )


def _parse_columns(columns: str) -> Columns:
    names = [name.strip() for name in columns.split(",")]
    unknown = [name for name in names if name not in (*_NAMES, SKIPPED)]
    twice = [name for name in _NAMES if names.count(name) > 1]
    missing = [name for name in ("enrol", "test", "score") if name not in names]
    if unknown or twice or missing:
        raise EvaluationError(
            f"--columns {columns}: expected each of enrol, test, score and at most one label, with"
            f" {SKIPPED} for a column to leave alone"
        )
    return {name: names.index(name) for name in _NAMES if name in names}


def _find_layout(path: Path, sample: Sequence[Sequence[str]]) -> Columns:
    """The layout that all of the first lines fit; ListError when none is known."""
    width = len(sample[0])
    if width < 3:
        raise ListError(path, 1, EXPECTED)
    third, last = ({words[place] for words in sample if len(words) == width} for place in (2, -1))
    place = {"enrol": 0, "test": 1}
    if width == 3:
        return {**place, "score": 2}
    if width in (4, 5) and third <= set(TRUTH):
        return {**place, "label": 2, "score": 3}
    if width == 4 and last <= set(TRUTH):
        return {**place, "score": 2, "label": 3}
    if width == 4 and third <= set(DIGITS) and not last <= set(DIGITS):
        return {**place, "label": 2, "score": 3}
    raise ListError(path, 1, EXPECTED)


def _take_truth(
    path: Path, scored: TrialList, listed: Path, truth: TrialList, *, labeled: bool
) -> TrialList:
    """`scored` with the truth of the list; ListError unless both have the same trials."""
    model, clip = (
        np.array([{name: row for row, name in enumerate(names)}.get(name, -1) for name in own])
        for names, own in ((truth.models, scored.models), (truth.clips, scored.clips))
    )
    enrol, test = model[scored.enrol], clip[scored.test]
    keys = np.where((enrol < 0) | (test < 0), -1, enrol * np.int64(len(truth.clips)) + test)
    order = np.argsort(truth.pair)
    ordered = truth.pair[order]
    at = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    absent = ordered[at] != keys
    if absent.any():
        row = int(np.argmax(absent))
        raise ListError(path, scored.line[row], f"{_trial(scored, row)} is not in the trial list")
    rows = order[at]
    if len(scored) < len(truth):
        row = int(np.setdiff1d(np.arange(len(truth)), rows)[0])
        raise ListError(listed, truth.line[row], f"{_trial(truth, row)} has no score in {path}")
    target = truth.target[rows]
    if labeled and (wrong := target != scored.target).any():
        row = int(np.argmax(wrong))
        raise ListError(
            path,
            scored.line[row],
            f"{_trial(scored, row)} is labeled otherwise on line {truth.line[rows[row]]}"
            f" of {listed}",
        )
    return replace(scored, target=target)


def _trial(listed: TrialList, row: int) -> str:
    return f"{listed.models[listed.enrol[row]]} {listed.clips[listed.test[row]]}"


def _add_known_speakers(clips: Mapping[str, Clip], known: Mapping[str, Clip]) -> dict[str, Clip]:
    """Replace `clips` by those of the manifest.

    A model, which no manifest has, gets the speaker of the clips that target trials join it to.
    """
    speakers: dict[Speaker, set[Speaker]] = {}
    for name, clip in clips.items():
        if name in known:
            speakers.setdefault(clip.speaker, set()).add(known[name].speaker)
    return {
        name: known.get(name)
        or replace(clip, speaker=min(speakers.get(clip.speaker, {clip.speaker})))
        for name, clip in clips.items()
    }
