"""What a manifest says of the two sides of each trial: gender, session, corpus, codec, ..."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.manifest import Clip
from evaluation.trials import Trials

Truth = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sided:
    """One label of every trial: `names` (k,), and each side's row in them (n,)."""

    names: tuple[str, ...]
    enrol: NDArray[np.intp]
    test: NDArray[np.intp]

    @property
    def same(self) -> Truth:
        """Where both sides agree, (n,)."""
        return np.equal(self.enrol, self.test)


def columns(clips: Sequence[Clip]) -> tuple[str, ...]:
    """The label columns of the clips' manifest."""
    return tuple(dict.fromkeys(name for clip in clips for name in clip.labels))


def sided(trials: Trials, column: str) -> Sided:
    """The label `column` of both sides, a model's being that of its first clip.

    EvaluationError when no clip has such a label.
    """
    values = [_value(clip, column) for clip in trials.clips]
    if not any(values):
        known = ", ".join(("corpus", *columns(trials.clips)))
        raise EvaluationError(f"no clip has a label {column!r}; there is {known}")
    names, code = np.unique(values, return_inverse=True)
    first = np.array([model.clips[0] for model in trials.models])
    return Sided(tuple(names.tolist()), code[first][trials.enrol], code[trials.test])


def filtered(trials: Trials, *, same: Sequence[str] = (), different: Sequence[str] = ()) -> Trials:
    """The trials whose sides agree in every label of `same` and in none of `different`.

    `same=("gender",)` leaves the harder non-targets; `different=("session",)` leaves targets that
    the channel does not give away.
    """
    keep = np.ones(len(trials), bool)
    for column in same:
        keep &= sided(trials, column).same
    for column in different:
        keep &= ~sided(trials, column).same
    return trials if keep.all() else trials.select(keep)


def _value(clip: Clip, column: str) -> str:
    return clip.corpus if column == "corpus" else clip.labels.get(column, "")
