"""Trial lists made elsewhere, read line by line; a bad line is named by its number.

    VoxCeleb   1 a.wav b.wav                     1 for the same speaker, 0 for different ones
    Kaldi      enrolled heard target             or `nontarget`
    NIST       modelid segmentid side targettype with that header, in any order of columns

An enrolment map says what each model is made of: `model clip [clip ...]`, repeated as needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from evaluation.errors import EvaluationError, ListError
from evaluation.manifest import Clip, opened
from evaluation.trials import Model, Trials

TRUTH = {"target": True, "nontarget": False, "non-target": False, "imp": False}
_DIGITS = {"1": True, "0": False}
_NIST_MODEL = "modelid"


@dataclass(frozen=True, slots=True)
class Line:
    """One trial as written: the names of both sides and the truth."""

    number: int
    enrol: str
    test: str
    target: bool


Fields = tuple[int, Sequence[str]]


def read(path: Path) -> Iterator[Line]:
    """The trials of a list; its first line says which format it has."""
    lines = fields(path)
    first = next(lines, None)
    if first is None:
        raise EvaluationError(f"{path}: there is no trial in it")
    names = first[1]
    if _NIST_MODEL in names:
        return _nist(path, names, lines)
    reader = _voxceleb if names[0] in _DIGITS else _kaldi
    return reader(path, chain([first], lines))


def enrolments(path: Path) -> dict[str, tuple[str, ...]]:
    """The clips of each model, by name; ListError on a clip that a model has twice."""
    models: dict[str, tuple[str, ...]] = {}
    for number, (model, *clips) in fields(path):
        if model == _NIST_MODEL:
            continue
        if not clips:
            raise ListError(path, number, "expected `model clip [clip ...]`")
        held = (*models.get(model, ()), *clips)
        if len(set(held)) < len(held):
            raise ListError(path, number, f"{model} has the same clip twice")
        models[model] = held
    return models


def trials(
    path: Path,
    lines: Iterable[Line],
    known: Mapping[str, Clip],
    models: Mapping[str, Sequence[str]] | None = None,
) -> Trials:
    """The trials of a list over `known` clips; enrolled names are those of `models`, if given.

    ListError on names that are not known and on a trial that was there before.
    """
    clips: dict[str, int] = {}
    enrolled: dict[str, Model] = {}
    order: dict[str, int] = {}
    seen: dict[tuple[int, int], int] = {}
    target = []

    def clip(name: str, number: int) -> int:
        if name not in known:
            raise ListError(path, number, f"{name} is not a known clip")
        return clips.setdefault(name, len(clips))

    for line in lines:
        if line.enrol not in enrolled:
            if models is not None and line.enrol not in models:
                raise ListError(path, line.number, f"{line.enrol} is not in the enrolment map")
            names = (line.enrol,) if models is None else models[line.enrol]
            held = tuple(clip(name, line.number) for name in names)
            enrolled[line.enrol] = Model(line.enrol, held)
            order[line.enrol] = len(order)
        pair = (order[line.enrol], clip(line.test, line.number))
        if pair in seen:
            raise ListError(path, line.number, f"the same trial is on line {seen[pair]}")
        seen[pair] = line.number
        target.append(line.target)
    sides = np.array(list(seen), dtype=np.int32).reshape(-1, 2)
    return Trials(
        tuple(enrolled.values()),
        tuple(known[name] for name in clips),
        *(sides[:, 0], sides[:, 1], np.array(target, dtype=bool)),
    )


def unlisted(
    path: Path,
    lines: Iterable[Line],
    models: Mapping[str, Sequence[str]] | None = None,
    *,
    audio: Path | None,
) -> dict[str, Clip]:
    """The clips that a list names, files under `audio`, when no manifest knows them.

    Speakers, which intervals and cross-validation need, are the groups that target trials join.
    ListError on a missing file; with `audio` None none is looked for.
    """
    known: dict[str, Clip] = {}
    joined: list[tuple[str, str]] = []
    for line in lines:
        own = (line.enrol,) if models is None else tuple(models.get(line.enrol, ()))
        for name in (*own, line.test):
            if name not in known:
                known[name] = _clip(path, line.number, name, audio)
        joined += [(own[0], name) for name in own[1:]]
        joined += [(own[0], line.test)] if line.target and own else []
    speaker = _groups(joined)
    return {name: replace(clip, speaker=speaker(name)) for name, clip in known.items()}


def fields(path: Path) -> Iterator[Fields]:
    """Number and words of each line that is not blank."""
    with opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            if words := line.split():
                yield number, words


def _voxceleb(path: Path, lines: Iterable[Fields]) -> Iterator[Line]:
    for number, words in lines:
        if len(words) != 3 or words[0] not in _DIGITS:
            raise ListError(path, number, "expected `1 enrol test` or `0 enrol test`")
        yield Line(number, words[1], words[2], _DIGITS[words[0]])


def _kaldi(path: Path, lines: Iterable[Fields]) -> Iterator[Line]:
    for number, words in lines:
        if len(words) != 3 or words[2] not in TRUTH:
            raise ListError(
                path, number, "expected `1 enrol test`, or `enrol test target` (or `nontarget`)"
            )
        yield Line(number, words[0], words[1], TRUTH[words[2]])


def _nist(path: Path, header: Sequence[str], lines: Iterable[Fields]) -> Iterator[Line]:
    for needed in ("segmentid", "targettype"):
        if needed not in header:
            raise ListError(path, 1, f"there is no column {needed!r}")
    columns = [header.index(name) for name in (_NIST_MODEL, "segmentid", "targettype")]
    for number, words in lines:
        if len(words) != len(header):
            raise ListError(path, number, f"expected {len(header)} columns, found {len(words)}")
        model, segment, kind = (words[column] for column in columns)
        if kind not in TRUTH:
            raise ListError(path, number, f"{kind!r} is neither target nor nontarget")
        yield Line(number, model, segment, TRUTH[kind])


def _clip(path: Path, number: int, name: str, audio: Path | None) -> Clip:
    file = (audio or Path()) / name
    if audio is not None and not file.is_file():
        raise ListError(path, number, f"{file} is missing")
    return Clip(name, file, name)


def _groups(same: Iterable[tuple[str, str]]) -> Callable[[str], str]:
    """The representative of each name when the names of every pair are one speaker's."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.get(name, name)) != name:
            parent[name] = parent.get(above, above)
            name = above
        return name

    for one, other in same:
        parent[root(one)] = root(other)
    return root
