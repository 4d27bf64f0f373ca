"""Score files made elsewhere, so that any system can be evaluated.

    enrol test score                      with a trial list that says the truth
    enrol test target|nontarget score     on its own; further columns are left alone

Plain or gzip-compressed; a bad line is named by its number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation import lists
from evaluation.errors import EvaluationError, ListError
from evaluation.lists import TRUTH, Line
from evaluation.manifest import Clip
from evaluation.trials import Trials

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoreFile:
    """Trials with a score each, `scores` (n,), higher meaning more alike."""

    trials: Trials
    scores: Floats


def read(path: Path, listed: Path | None = None, known: dict[str, Clip] | None = None) -> ScoreFile:
    """A score file, its truth from its own third column or from the list `listed`.

    Names found in `known` take its speakers and labels. ListError on a malformed line, a score
    that is not finite, a repeated trial, and on trials that only one of the two files has.
    """
    truth = None if listed is None else {(x.enrol, x.test): x for x in lists.read(listed)}
    lines, scores = [], []
    for number, words in lists.fields(path):
        line, score = _parsed(path, number, words, truth)
        lines.append(line)
        scores.append(score)
    if not lines:
        raise EvaluationError(f"{path}: there is no score in it")
    if truth is not None and listed is not None:
        _all_scored(path, listed, truth, lines)
    clips = lists.unlisted(path, lines, audio=None)
    if known is not None:
        clips = {name: known.get(name, clip) for name, clip in clips.items()}
    return ScoreFile(lists.trials(path, lines, clips), np.array(scores))


def _parsed(
    path: Path, number: int, words: Sequence[str], truth: dict[tuple[str, str], Line] | None
) -> tuple[Line, float]:
    if truth is None:
        if len(words) < 4 or words[2] not in TRUTH:
            raise ListError(
                path,
                number,
                "expected `enrol test target score` (or `nontarget`);"
                " for `enrol test score` give the trial list too",
            )
        return Line(number, words[0], words[1], TRUTH[words[2]]), _number(path, number, words[3])
    if len(words) < 3:
        raise ListError(path, number, "expected `enrol test score`")
    asked = truth.get((words[0], words[1]))
    if asked is None:
        raise ListError(path, number, f"{words[0]} {words[1]} is not in the trial list")
    text = words[3] if words[2] in TRUTH and len(words) > 3 else words[2]
    return Line(number, words[0], words[1], asked.target), _number(path, number, text)


def _number(path: Path, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise ListError(path, number, f"{text!r} is not a number") from error
    if not math.isfinite(value):
        raise ListError(path, number, f"the score is {text}; every score must be finite")
    return value


def _all_scored(
    path: Path, listed: Path, truth: dict[tuple[str, str], Line], lines: Iterable[Line]
) -> None:
    scored = {(line.enrol, line.test) for line in lines}
    missing = next((line for pair, line in truth.items() if pair not in scored), None)
    if missing is not None:
        raise ListError(
            listed, missing.number, f"{missing.enrol} {missing.test} has no score in {path}"
        )
