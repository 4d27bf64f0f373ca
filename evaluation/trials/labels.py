"""What a manifest says of the two sides of each trial: gender, session, corpus, codec, ..."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.trials.manifest import Clip
from evaluation.trials.trials import Trials

Truth = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LabelSides:
    """One label of every trial: `names` (k,), and each side's row in them (n,), -1 where blank."""

    names: tuple[str, ...]
    enrol: NDArray[np.intp]
    test: NDArray[np.intp]

    @property
    def known(self) -> Truth:
        """Where both sides have the label, (n,)."""
        return np.logical_and(self.enrol >= 0, self.test >= 0)

    @property
    def same(self) -> Truth:
        """Where both sides have the label and agree, (n,)."""
        return np.equal(self.enrol, self.test) & self.known

    @property
    def different(self) -> Truth:
        """Where both sides have the label and do not agree, (n,)."""
        return np.not_equal(self.enrol, self.test) & self.known


def list_columns(clips: Sequence[Clip]) -> tuple[str, ...]:
    """The manifest's columns in which at least one clip has a label; a blank is no label."""
    return tuple(
        dict.fromkeys(name for clip in clips for name, value in clip.labels.items() if value)
    )


def label_sides(trials: Trials, column: str) -> LabelSides:
    """The label `column` of both sides, a model's being that of its first clip.

    EvaluationError when there is no such column, or it is blank for all of these clips.
    """
    values = [_value(clip, column) for clip in trials.clips]
    if not any(values):
        raise _missing(column, trials.clips)
    names = sorted(set(values) - {""})
    codes = {name: code for code, name in enumerate(names)}
    code = np.array([codes.get(value, -1) for value in values])
    first = np.array([model.clips[0] for model in trials.models])
    return LabelSides(tuple(names), code[first][trials.enrol], code[trials.test])


def filter_trials(
    trials: Trials, *, same: Sequence[str] = (), different: Sequence[str] = ()
) -> Trials:
    """The trials whose sides agree in every label of `same` and in none of `different`; those with
    a blank label on either side are neither.

    `same=("gender",)` leaves the harder non-targets; `different=("session",)` leaves targets that
    the channel does not give away.
    """
    keep = np.ones(len(trials), bool)
    for column in same:
        keep &= label_sides(trials, column).same
    for column in different:
        keep &= label_sides(trials, column).different
    return trials if keep.all() else trials.select(keep)


def measure_unlabeled(trials: Trials) -> dict[str, float]:
    """The share of trials in which a side's label is blank, by column, where there are any."""
    shares = {
        column: float(np.mean(~label_sides(trials, column).known))
        for column in list_columns(trials.clips)
    }
    return {column: share for column, share in shares.items() if share}


def _value(clip: Clip, column: str) -> str:
    return clip.corpus if column == "corpus" else clip.labels.get(column, "")


def _missing(column: str, clips: Sequence[Clip]) -> EvaluationError:
    known = ", ".join(("corpus", *list_columns(clips)))
    if any(column in clip.labels for clip in clips):
        return EvaluationError(
            f"the column {column!r} is blank for all of these clips; there is {known}"
        )
    return EvaluationError(f"no clip has a label {column!r}; there is {known}")
