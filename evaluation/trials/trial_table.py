"""Text tables of trials, read into columns: what trial lists and score files have in common.

file ─> read_fields ─> find_header or a layout of columns ─> collect ─> TrialList, scores

Four numbers are kept of each trial, and every name once, so that ten million trials fit in memory.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError, ListError
from evaluation.trials import text

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
SAMPLE_LINES = 1000  # the first lines, which say what layout a file has

Fields = tuple[int, Sequence[str]]
Columns = Mapping[str, int]  # the place of "enrol", "test", "label", "score"


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


def collect(
    path: Path, lines: Iterable[Fields], columns: Columns, width: int
) -> tuple[TrialList, NDArray[np.float64]]:
    """The trials of the lines and their scores (n,), which are empty without a score column.

    Without a label column every trial is a non-target. ListError on the first malformed line, a
    score that is not finite, and a trial that is there twice; EvaluationError when there is none.
    """
    enrol_at, test_at = columns["enrol"], columns["test"]
    label_at, score_at = columns.get("label"), columns.get("score")
    models: dict[str, int] = {}
    clips: dict[str, int] = {}
    enrol, test, line = array("i"), array("i"), array("i")
    target, scores = bytearray(), array("d")
    label: bool | None = False
    for number, words in lines:
        if len(words) != width:
            raise ListError(path, number, f"expected {width} columns, found {len(words)}")
        if score_at is not None:
            scores.append(_parse_score(path, number, words[score_at]))
        if label_at is not None and (label := LABELS.get(words[label_at])) is None:
            raise ListError(
                path, number, f"expected target or nontarget, found {words[label_at]!r}"
            )
        enrol.append(models.setdefault(words[enrol_at], len(models)))
        test.append(clips.setdefault(words[test_at], len(clips)))
        line.append(number)
        target.append(bool(label))
    if not line:
        raise EvaluationError(f"{path}: there is no trial in it")
    enrol_rows, test_rows, line_numbers = (
        np.frombuffer(column, np.int32) for column in (enrol, test, line)
    )
    listed = TrialList(
        tuple(models),
        tuple(clips),
        enrol_rows,
        test_rows,
        np.frombuffer(target, np.bool_),
        line_numbers,
    )
    _refuse_repeats(path, listed)
    return listed, np.frombuffer(scores, np.float64)


def _parse_score(path: Path, number: int, text: str) -> float:
    try:
        score = float(text)
    except ValueError as error:
        raise ListError(path, number, f"{text!r} is not a number") from error
    if not math.isfinite(score):
        raise ListError(path, number, f"the score is {score}; every score must be finite")
    return score


def _refuse_repeats(path: Path, listed: TrialList) -> None:
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
        f"the trial is labeled {labels[1]}, and on line {listed.line[one]} {labels[0]}",
    )
