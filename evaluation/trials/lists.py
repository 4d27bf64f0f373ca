"""Trial lists and enrollment maps; an error names the line.

    VoxCeleb   1 a.wav b.wav                     1 for the same speaker, 0 for different ones
    labeled    a.wav b.wav 1                     the same with the label last
    Kaldi      enrolled test target              or `nontarget`; VOiCES says `tgt` and `imp`
    NIST       modelid segmentid side targettype with that header, in any order of columns
    CSV        enrol,test,label                  with any of these headers' names, or as above

An enrollment map says what each model is made of: `model clip [clip ...]`, repeated as needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError, ListError
from evaluation.trials.manifest import Clip, Speaker
from evaluation.trials.trial_table import (
    DIGITS,
    HEADER,
    SAMPLE_LINES,
    TRUTH,
    Columns,
    TrialList,
    collect,
    find_header,
    read_fields,
)
from evaluation.trials.trials import Model, Trials

EXPECTED = (
    "expected `1 enrol test`, `enrol test 1`, `enrol test target` (or `nontarget`), or a header"
    " that names the columns, such as `enrol,test,label`"
)


_ENROL_TEST = {"enrol": 0, "test": 1}
_LAYOUTS: Sequence[tuple[Columns, Mapping[str, bool]]] = (
    ({"label": 0, "enrol": 1, "test": 2}, DIGITS),
    ({**_ENROL_TEST, "label": 2}, DIGITS),
    ({**_ENROL_TEST, "label": 2}, TRUTH),
)


def read(path: Path) -> TrialList:
    """Read a list; its first lines say which format it has."""
    lines = read_fields(path)
    first = list(islice(lines, SAMPLE_LINES))
    if not first:
        raise EvaluationError(f"{path}: there is no trial in it")
    columns = find_header(path, first[0][1], ("enrol", "test", "label"))
    width = len(first[0][1])
    if columns is None:
        columns = _find_layout(path, [words for _, words in first])
        width = 3
    else:
        first = first[1:]
    columns = {name: columns[name] for name in ("enrol", "test", "label")}
    return collect(path, chain(first, lines), columns, width)[0]


def _find_layout(path: Path, sample: Sequence[Sequence[str]]) -> Columns:
    """The one layout that the first lines fit; ListError when they fit none or two."""
    first = sample[0]
    fitting = [
        columns
        for columns, labels in _LAYOUTS
        if len(first) == len(columns) and first[columns["label"]] in labels
    ]
    if len(fitting) > 1:
        fitting = [
            columns
            for columns in fitting
            if all(
                len(words) == len(columns) and words[columns["label"]] in DIGITS for words in sample
            )
        ]
    if not fitting:
        raise ListError(path, 1, EXPECTED)
    if len(fitting) > 1:
        raise ListError(
            path,
            1,
            "the label may be the first column or the last; give a header: enrol test label",
        )
    return fitting[0]


def read_enrollments(path: Path) -> dict[str, tuple[str, ...]]:
    """The clips of each model, by name; ListError on a clip that a model has twice."""
    models: dict[str, tuple[str, ...]] = {}
    for number, (model, *clips) in read_fields(path):
        if model in HEADER["enrol"]:
            continue
        if not clips:
            raise ListError(path, number, "expected `model clip [clip ...]`")
        together = (*models.get(model, ()), *clips)
        if len(set(together)) < len(together):
            raise ListError(path, number, f"{model} has the same clip twice")
        models[model] = together
    return models


def make_trials(
    path: Path,
    listed: TrialList,
    known: Mapping[str, Clip],
    models: Mapping[str, Sequence[str]] | None = None,
) -> Trials:
    """Make the trials of a list over `known` clips; enrolled names are those of `models`, if given.

    ListError on an unknown name, and if the list and the clips' speakers disagree.
    """
    first_of_model = _first_lines(listed.enrol, listed)
    first_of_clip = _first_lines(listed.test, listed)
    rows: dict[str, int] = {}

    def row(name: str, line: int) -> int:
        if name not in known:
            raise ListError(path, line, f"{name} is not a known clip")
        return rows.setdefault(name, len(rows))

    enrolled = []
    for name, line in zip(listed.models, first_of_model, strict=True):
        if models is not None and name not in models:
            raise ListError(path, line, f"{name} is not in the enrollment map")
        parts = (name,) if models is None else models[name]
        enrolled.append(Model(name, tuple(row(part, line) for part in parts)))
    tested = [row(name, line) for name, line in zip(listed.clips, first_of_clip, strict=True)]
    test = np.array(tested, np.int32)[listed.test]
    clips = tuple(known[name] for name in rows)
    trials = Trials(tuple(enrolled), clips, listed.enrol, test, listed.target)
    _refuse_other_speakers(path, listed, trials)
    return trials


def _refuse_other_speakers(path: Path, listed: TrialList, trials: Trials) -> None:
    numbers = {one: place for place, one in enumerate({clip.speaker for clip in trials.clips})}
    speaker = np.array([numbers[clip.speaker] for clip in trials.clips])
    for model in trials.models:
        if len({speaker[clip] for clip in model.clips}) > 1:
            speakers = ", ".join(_name_speaker(trials.clips[clip]) for clip in model.clips)
            raise EvaluationError(f"{path}: {model.name} is made of several speakers: {speakers}")
    first = np.array([model.clips[0] for model in trials.models])
    same = speaker[first][trials.enrol] == speaker[trials.test]
    wrong = np.flatnonzero(same != trials.target)
    if len(wrong):
        row = wrong[0]
        one, two = trials.clips[first[trials.enrol[row]]], trials.clips[trials.test[row]]
        label = "target" if trials.target[row] else "nontarget"
        why = f"{_name_speaker(one)} and {_name_speaker(two)}"
        if not (one.line and two.line):  # the speakers are what the list's own targets say
            touching = (trials.enrol == trials.enrol[row]) | (trials.test == trials.test[row])
            line = listed.line[np.argmax(touching & trials.target)]
            why = f"target trials make {one.name} and {two.name} one speaker's, see line {line}"
        raise ListError(path, listed.line[row], f"labeled {label}, but {why}")


def _name_speaker(clip: Clip) -> str:
    where = f" (line {clip.line} of the manifest)" if clip.line else ""
    return f"{clip.name} is of speaker {clip.speaker}{where}"


def _first_lines(names: NDArray[np.int32], listed: TrialList) -> list[int]:
    """The first line of each name; names are numbered in the order in which they occur."""
    first = np.unique(names, return_index=True)[1]
    lines: list[int] = listed.line[first].tolist()
    return lines


def make_clips(
    path: Path,
    listed: TrialList,
    models: Mapping[str, Sequence[str]] | None = None,
    *,
    audio: Path | None,
) -> dict[str, Clip]:
    """Make the clips that a list names, with files under `audio`, when there is no manifest.

    Their speakers, which intervals and cross-validation need, are the groups that target trials
    join. ListError on a missing file; with `audio` None no file is looked for.
    """
    known: dict[str, Clip] = {}
    parts: list[Sequence[str]] = []
    for name, line in zip(listed.models, _first_lines(listed.enrol, listed), strict=True):
        own = (name,) if models is None else models.get(name, ())
        known.update(
            {part: _make_clip(path, line, part, audio) for part in own if part not in known}
        )
        parts.append(own)
    for name, line in zip(listed.clips, _first_lines(listed.test, listed), strict=True):
        if name not in known:
            known[name] = _make_clip(path, line, name, audio)
    group = _join_targets(listed, parts, list(known))
    return {name: replace(clip, speaker=Speaker("", group[name])) for name, clip in known.items()}


def _join_targets(
    listed: TrialList, parts: Sequence[Sequence[str]], names: Sequence[str]
) -> dict[str, str]:
    """Group names that target pairs join; a group is named by one of its names."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while (above := parent[name]) != name:
            parent[name] = parent[above]
            name = above
        return name

    for own in parts:
        for name in own[1:]:
            parent[root(own[0])] = root(name)
    for enrol, test in np.unique(
        np.stack([listed.enrol[listed.target], listed.test[listed.target]], 1), axis=0
    ).tolist():
        if own := parts[enrol]:
            parent[root(own[0])] = root(listed.clips[test])
    return {name: root(name) for name in names}


def _make_clip(path: Path, number: int, name: str, audio: Path | None) -> Clip:
    file = (audio or Path()) / name
    if audio is not None and not file.is_file():
        raise ListError(path, number, f"{file} is missing")
    return Clip(name, file, Speaker("", name))
