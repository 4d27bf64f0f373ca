"""Trial lists and enrolment maps, read into columns; a bad line is named by its number.

    VoxCeleb   1 a.wav b.wav                     1 for the same speaker, 0 for different ones
    labelled   a.wav b.wav 1                     the same with the label last
    Kaldi      enrolled heard target             or `nontarget`; VOiCES says `tgt` and `imp`
    NIST       modelid segmentid side targettype with that header, in any order of columns
    CSV        enrol,test,label                  with any of these headers' names, or as above

An enrolment map says what each model is made of: `model clip [clip ...]`, repeated as needed.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError, ListError
from evaluation.trials import text
from evaluation.trials.manifest import Clip, Speaker
from evaluation.trials.trials import Model, Trials

TRUTH = {
    "target": True,
    "tgt": True,
    "nontarget": False,
    "non-target": False,
    "imp": False,
    "impostor": False,
    "imposter": False,
}
DIGITS = {"1": True, "0": False}
LABELS = {**TRUTH, **DIGITS}
HEADER = {
    "enrol": ("modelid", "enrol", "enroll", "enrolment", "enrollment", "model"),
    "test": ("segmentid", "test", "segment", "heard", "probe"),
    "label": ("targettype", "label", "target", "key"),
    "score": ("score", "llr", "lr"),
}
EXPECTED = (
    "expected `1 enrol test`, `enrol test 1`, `enrol test target` (or `nontarget`), or a header"
    " that names the columns, such as `enrol,test,label`"
)
_SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class TrialList:
    """Trials as written, (n,) each: rows of `models` and of `clips`, the truth, and the lines."""

    models: tuple[str, ...]
    clips: tuple[str, ...]
    enrol: NDArray[np.int32]
    test: NDArray[np.int32]
    target: NDArray[np.bool_]
    line: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.line)

    @property
    def pair(self) -> NDArray[np.int64]:
        """A number for each trial, (n,), the same for the same two names."""
        keys: NDArray[np.int64] = self.enrol * np.int64(len(self.clips)) + self.test
        return keys


Fields = tuple[int, Sequence[str]]
Columns = Mapping[str, int]  # the place of "enrol", "test", "label", "score"

_ENROL_TEST = {"enrol": 0, "test": 1}
_LAYOUTS: Sequence[tuple[Columns, Mapping[str, bool]]] = (
    ({"label": 0, "enrol": 1, "test": 2}, DIGITS),
    ({**_ENROL_TEST, "label": 2}, DIGITS),
    ({**_ENROL_TEST, "label": 2}, TRUTH),
)


def read(path: Path) -> TrialList:
    """The trials of a list; its first lines say which format it has."""
    lines = read_fields(path)
    first = list(islice(lines, _SAMPLE))
    if not first:
        raise EvaluationError(f"{path}: there is no trial in it")
    columns = find_header(path, first[0][1], ("enrol", "test", "label"))
    width = len(first[0][1])
    if columns is None:
        columns = _layout(path, [words for _, words in first])
        width = 3
    else:
        first = first[1:]
    return _collected(path, chain(first, lines), columns, width)


def find_header(path: Path, words: Sequence[str], wanted: Sequence[str]) -> Columns | None:
    """Where a header has each of the columns `wanted`; None when it is no header."""
    places = {
        name: place
        for place, word in enumerate(words)
        for name in HEADER
        if word.lower() in HEADER[name]
    }
    if not {"enrol", "test"} & set(places) or any(word in DIGITS for word in words):
        return None
    for name in wanted:
        if name not in places:
            raise ListError(path, 1, f"there is no column {HEADER[name][0]!r}, or {name!r}")
    return places


def _layout(path: Path, sample: Sequence[Sequence[str]]) -> Columns:
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


def _collected(path: Path, lines: Iterable[Fields], columns: Columns, width: int) -> TrialList:
    """One pass over the lines: four numbers a trial are kept, and every name once."""
    enrol_at, test_at, label_at = (columns[name] for name in ("enrol", "test", "label"))
    models: dict[str, int] = {}
    clips: dict[str, int] = {}
    enrol, test, line, target = array("i"), array("i"), array("i"), bytearray()
    labels = LABELS.get
    for number, words in lines:
        if len(words) != width:
            raise ListError(path, number, f"expected {width} columns, found {len(words)}")
        label = labels(words[label_at])
        if label is None:
            raise ListError(
                path, number, f"expected target or nontarget, found {words[label_at]!r}"
            )
        enrol.append(models.setdefault(words[enrol_at], len(models)))
        test.append(clips.setdefault(words[test_at], len(clips)))
        target.append(label)
        line.append(number)
    if not line:
        raise EvaluationError(f"{path}: there is no trial in it")
    rows = [np.frombuffer(one, np.int32) for one in (enrol, test, line)]
    truth = np.frombuffer(target, np.bool_)
    listed = TrialList(tuple(models), tuple(clips), rows[0], rows[1], truth, rows[2])
    refuse_repeats(path, listed)
    return listed


def refuse_repeats(path: Path, listed: TrialList) -> None:
    """ListError when a trial is there twice, or the other way round with the opposite label."""
    order = np.argsort(listed.pair, kind="stable")
    ordered = listed.pair[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(again):
        row = again[np.argmin(listed.line[order[again + 1]])]
        _refuse(path, listed, int(order[row]), int(order[row + 1]))
    both = {name: place for place, name in enumerate(listed.clips)}
    of_model = np.array([both.get(name, -1) for name in listed.models])
    of_clip = np.full(len(listed.clips), -1)
    of_clip[of_model[of_model >= 0]] = np.flatnonzero(of_model >= 0)
    swapped = np.flatnonzero((of_model[listed.enrol] >= 0) & (of_clip[listed.test] >= 0))
    if not len(swapped):
        return
    keys = (
        of_clip[listed.test[swapped]] * np.int64(len(listed.clips))
        + of_model[listed.enrol[swapped]]
    )
    at = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    other = order[at]
    opposite = (ordered[at] == keys) & (listed.target[other] != listed.target[swapped])
    if opposite.any():
        row = int(np.argmax(opposite))
        one, two = sorted((int(swapped[row]), int(other[row])), key=lambda one: listed.line[one])
        _refuse(path, listed, one, two)


def _refuse(path: Path, listed: TrialList, one: int, two: int) -> None:
    if listed.target[one] == listed.target[two]:
        raise ListError(path, listed.line[two], f"the same trial is on line {listed.line[one]}")
    labels = [("nontarget", "target")[int(listed.target[row])] for row in (one, two)]
    raise ListError(
        path,
        listed.line[two],
        f"the trial is labelled {labels[1]}, and on line {listed.line[one]} {labels[0]}",
    )


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
    """The trials of a list over `known` clips; enrolled names are those of `models`, if given.

    ListError on names that are not known, and where the list and the clips' speakers disagree.
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
            raise ListError(path, line, f"{name} is not in the enrolment map")
        parts = (name,) if models is None else models[name]
        enrolled.append(Model(name, tuple(row(part, line) for part in parts)))
    heard = [row(name, line) for name, line in zip(listed.clips, first_of_clip, strict=True)]
    test = np.array(heard, np.int32)[listed.test]
    clips = tuple(known[name] for name in rows)
    asked = Trials(tuple(enrolled), clips, listed.enrol, test, listed.target)
    _refuse_other_speakers(path, listed, asked)
    return asked


def _refuse_other_speakers(path: Path, listed: TrialList, asked: Trials) -> None:
    numbers = {one: place for place, one in enumerate({clip.speaker for clip in asked.clips})}
    speaker = np.array([numbers[clip.speaker] for clip in asked.clips])
    for model in asked.models:
        if len({speaker[clip] for clip in model.clips}) > 1:
            told = ", ".join(_told(asked.clips[clip]) for clip in model.clips)
            raise EvaluationError(f"{path}: {model.name} is made of several speakers: {told}")
    first = np.array([model.clips[0] for model in asked.models])
    same = speaker[first][asked.enrol] == speaker[asked.test]
    wrong = np.flatnonzero(same != asked.target)
    if len(wrong):
        row = wrong[0]
        one, two = asked.clips[first[asked.enrol[row]]], asked.clips[asked.test[row]]
        label = "target" if asked.target[row] else "nontarget"
        why = f"{_told(one)} and {_told(two)}"
        if not (one.line and two.line):  # the speakers are what the list's own targets say
            touching = (asked.enrol == asked.enrol[row]) | (asked.test == asked.test[row])
            line = listed.line[np.argmax(touching & asked.target)]
            why = f"target trials make {one.name} and {two.name} one speaker's, see line {line}"
        raise ListError(path, listed.line[row], f"labelled {label}, but {why}")


def _told(clip: Clip) -> str:
    where = f" (line {clip.line} of the manifest)" if clip.line else ""
    return f"{clip.name} is of speaker {clip.speaker}{where}"


def _first_lines(names: NDArray[np.int32], listed: TrialList) -> list[int]:
    """The first line that has each of the names, which are numbered as they come."""
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
    """The clips that a list names, files under `audio`, when no manifest knows them.

    Speakers, which intervals and cross-validation need, are the groups that target trials join.
    ListError on a missing file; with `audio` None none is looked for.
    """
    known: dict[str, Clip] = {}
    parts: list[Sequence[str]] = []
    for name, line in zip(listed.models, _first_lines(listed.enrol, listed), strict=True):
        own = (name,) if models is None else models.get(name, ())
        known.update({part: _clip(path, line, part, audio) for part in own if part not in known})
        parts.append(own)
    for name, line in zip(listed.clips, _first_lines(listed.test, listed), strict=True):
        if name not in known:
            known[name] = _clip(path, line, name, audio)
    group = _groups(listed, parts, list(known))
    return {name: replace(clip, speaker=Speaker("", group[name])) for name, clip in known.items()}


def _groups(
    listed: TrialList, parts: Sequence[Sequence[str]], names: Sequence[str]
) -> dict[str, str]:
    """The representative of each name when the names of every target pair are one speaker's."""
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


def read_fields(path: Path) -> Iterator[Fields]:
    """Number and words of each line that is not blank; commas part them when the first line has
    no other blanks between its words."""
    lines = enumerate(text.read_lines(path), start=1)
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return iter(())
    together = chain([first], lines)
    if "," in first[1] and len(first[1].split()) == 1:
        return _comma_separated(path, together)
    return ((number, words) for number, line in together if (words := line.split()))


def _comma_separated(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[Fields]:
    numbers: list[int] = []

    def noted() -> Iterator[str]:
        for number, line in lines:
            numbers[:] = [number]
            yield line

    try:
        for words in csv.reader(noted(), skipinitialspace=True):
            if any(words):
                yield numbers[0], [word.strip() for word in words]
    except csv.Error as error:
        raise ListError(path, numbers[0], f"not CSV: {error}") from error


def _clip(path: Path, number: int, name: str, audio: Path | None) -> Clip:
    file = (audio or Path()) / name
    if audio is not None and not file.is_file():
        raise ListError(path, number, f"{file} is missing")
    return Clip(name, file, Speaker("", name))
