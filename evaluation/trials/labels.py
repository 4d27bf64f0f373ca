"""The manifest's labels of both sides of each trial: gender, session, corpus, codec, ..."""

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
    """One label of both sides: its values `names` (k,), and each side's index (n,), -1 if blank."""

    names: tuple[str, ...]
    enrol: NDArray[np.intp]
    test: NDArray[np.intp]

    @property
    def known(self) -> Truth:
        """Marks trials whose sides both have the label, (n,)."""
        return np.logical_and(self.enrol >= 0, self.test >= 0)

    @property
    def same(self) -> Truth:
        """Marks trials whose sides have the same label, (n,)."""
        return np.equal(self.enrol, self.test) & self.known

    @property
    def different(self) -> Truth:
        """Marks trials whose sides have different labels, (n,)."""
        return np.not_equal(self.enrol, self.test) & self.known


def list_columns(clips: Sequence[Clip]) -> tuple[str, ...]:
    """The columns of the manifest in which at least one clip has a label; a blank is no label."""
    return tuple(
        dict.fromkeys(name for clip in clips for name, value in clip.labels.items() if value)
    )


def label_sides(trials: Trials, column: str) -> LabelSides:
    """Look up the label `column` of both sides; a model has that of its first clip.

    EvaluationError if there is no such column, or it is blank for all of these clips.
    """
    values = [_find_label(clip, column) for clip in trials.clips]
    if not any(values):
        raise _refuse_column(column, trials.clips)
    names = sorted(set(values) - {""})
    codes = {name: code for code, name in enumerate(names)}
    code = np.array([codes.get(value, -1) for value in values])
    first = np.array([model.clips[0] for model in trials.models])
    return LabelSides(tuple(names), code[first][trials.enrol], code[trials.test])


def filter_trials(
    trials: Trials, *, same: Sequence[str] = (), different: Sequence[str] = ()
) -> Trials:
    """Keep the trials whose sides agree in every label of `same` and in none of `different`.

    A trial with a blank label on either side is dropped.

    `same=("gender",)` keeps the harder non-targets; `different=("session",)` keeps targets that the
    channel does not give away.
    """
    keep = np.ones(len(trials), bool)
    for column in same:
        keep &= label_sides(trials, column).same
    for column in different:
        keep &= label_sides(trials, column).different
    return trials if keep.all() else trials.select(keep)


def measure_unlabeled(trials: Trials) -> dict[str, float]:
    """The share of trials with a blank label on a side, by column; 0 is left out."""
    shares = {
        column: float(np.mean(~label_sides(trials, column).known))
        for column in list_columns(trials.clips)
    }
    return {column: share for column, share in shares.items() if share}


def _find_label(clip: Clip, column: str) -> str:
    return clip.corpus if column == "corpus" else clip.labels.get(column, "")


def _refuse_column(column: str, clips: Sequence[Clip]) -> EvaluationError:
    known = ", ".join(("corpus", *list_columns(clips)))
    if any(column in clip.labels for clip in clips):
        return EvaluationError(
            f"the column {column!r} is blank for all of these clips; there is {known}"
        )
    return EvaluationError(f"no clip has a label {column!r}; there is {known}")
