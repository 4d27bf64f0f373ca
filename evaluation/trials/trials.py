"""Trials: an enrolled model, a test clip, and whether both are of one speaker.

Pairs are made within a corpus. Two corpora differ in language, microphone and codec, which tell a
non-target pair across them apart without the voice: such pairs flatter any system.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.metrics.sides import Sides
from evaluation.trials.manifest import Clip, speaker_numbers

Indices = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Model:
    """An enrolled model: its name, and the indices of the clips it is made of."""

    name: str
    clips: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trials:
    """`enrol` (n,) indexes `models`, `test` (n,) indexes `clips`, `target` (n,) is the truth.

    EvaluationError without a target or without a non-target trial.
    """

    models: tuple[Model, ...]
    clips: tuple[Clip, ...]
    enrol: Indices
    test: Indices
    target: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not self.target.any():
            raise EvaluationError("there is no target trial: no speaker has two clips to compare")
        if self.target.all():
            raise EvaluationError("there is no non-target trial: nobody to confuse a speaker with")

    def __len__(self) -> int:
        return len(self.target)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Trials:
        """The trials marked in `keep` (n,), or at its rows; models and clips stay the same."""
        return Trials(self.models, self.clips, self.enrol[keep], self.test[keep], self.target[keep])

    def sides(self) -> Sides:
        """Who is on both sides: a model of one clip is that clip's unit, others are their own."""
        clips = len(self.clips)
        own = [
            model.clips[0] if len(model.clips) == 1 else clips + index
            for index, model in enumerate(self.models)
        ]
        of_clip = speaker_numbers(self.clips)
        first = np.array([model.clips[0] for model in self.models])
        speaker = np.concatenate([of_clip, of_clip[first]])
        return Sides(np.array(own)[self.enrol], self.test, speaker).compact()

    @property
    def corpus(self) -> NDArray[np.str_]:
        """The corpus of each trial's test clip, (n,)."""
        return np.array([clip.corpus for clip in self.clips])[self.test]

    @property
    def enrol_corpus(self) -> NDArray[np.str_]:
        """The corpus of each trial's enrolled model, (n,)."""
        return np.array([self.clips[model.clips[0]].corpus for model in self.models])[self.enrol]


def make_single_clip_models(clips: Sequence[Clip]) -> tuple[Model, ...]:
    """One model for each clip, in the same order."""
    return tuple(Model(clip.name, (index,)) for index, clip in enumerate(clips))


def make_pairs(
    clips: Sequence[Clip], *, limit: int, seed: int = 0, across_corpora: bool = False
) -> Trials:
    """All pairs of clips, each once, or `limit` of them drawn by `seed` if there are more.

    A draw takes target pairs up to half of the limit, and fills up with non-target pairs.
    """
    group = np.array(["" if across_corpora else clip.corpus for clip in clips])
    speaker = speaker_numbers(clips)
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(group == name).astype(np.int32) for name in np.unique(group)]
    if sum(len(own) * (len(own) - 1) // 2 for own in members) <= limit:
        first, second = _join(_all_pairs(own) for own in members)
    else:
        first, second = _draw_pairs(members, speaker, limit, rng)
    same = speaker[first] == speaker[second]
    return Trials(make_single_clip_models(clips), tuple(clips), first, second, same)


def _all_pairs(members: Indices) -> tuple[Indices, Indices]:
    first, second = np.triu_indices(len(members), 1)
    return members[first], members[second]


def _draw_pairs(
    members: Sequence[Indices], speaker: NDArray[np.int64], limit: int, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    own = [clips[speaker[clips] == who] for clips in members for who in np.unique(speaker[clips])]
    target = _sample(_join(_all_pairs(clips) for clips in own), limit // 2, rng)
    wanted = limit - len(target[0])
    sizes = np.array([len(clips) * (len(clips) - 1) / 2 for clips in members])
    shares = np.floor(wanted * sizes / sizes.sum()).astype(int)
    other = _join(
        _draw_nontargets(clips, speaker, share, rng)
        for clips, share in zip(members, shares, strict=True)
    )
    return _join([target, other])


def _draw_nontargets(
    members: Indices, speaker: NDArray[np.int64], wanted: int, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """Distinct pairs of different speakers, out of about twice as many draws as needed."""
    drawn = rng.integers(0, len(members), (2, 2 * wanted + 16))
    low, high = np.sort(drawn, axis=0)
    keys = np.unique(low * len(members) + high)
    first, second = members[keys // len(members)], members[keys % len(members)]
    other = speaker[first] != speaker[second]
    return _sample((first[other], second[other]), wanted, rng)


def _sample(
    pair: tuple[Indices, Indices], limit: int, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    if len(pair[0]) <= limit:
        return pair
    keep = np.sort(rng.choice(len(pair[0]), limit, replace=False))
    return pair[0][keep], pair[1][keep]


def _join(parts: Iterable[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
    firsts, seconds = zip(*parts, strict=True)
    return np.concatenate(firsts), np.concatenate(seconds)
