"""An operator's calls, embedded, and the pairs of labelled ones that scores are judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.sides import Integers, Sides
from evaluation.scoring import calibration_set, embeddings, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.embeddings import System, Voices
from evaluation.scoring.measures import Measures
from evaluation.scoring.scores import ScoredTrials
from evaluation.trials import labels
from evaluation.trials.manifest import Clip, Speaker, speaker_numbers
from evaluation.trials.trials import Trials, make_pairs
from evaluation.tuning.recordings import Recordings

LENGTHS_S = (None, 1.0, 3.0)
SESSION = "session"
SPEAKERS_NEEDED = 20  # with two recordings or more: four in each fold
Truth = NDArray[np.bool_]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LabelledTrials:
    """Pairs of labelled recordings: the whole test side, and its first seconds.

    `whole` are the trials on whole recordings, whose `length` (n,) is 0; `measures` have plain
    cosines.
    The sides of trial i are `enrolled[enrol[i]]` and `test[test_row[i]]`.
    """

    whole: ScoredTrials
    measures: Measures
    target: Truth
    sides: Sides
    enrolled: Vectors
    enrol: Integers
    test: Vectors
    test_row: Integers
    length: Integers
    clip_speaker: Integers

    @property
    def is_whole(self) -> Truth:
        """Marks the trials on whole recordings, (n,)."""
        return np.equal(self.length, 0)


@dataclass(frozen=True, slots=True)
class Calls:
    """All recordings' voices; `trials` is None if there are too few labelled ones, and `missing`
    says in sentences what is."""

    labelled: Voices | None
    unlabelled: Voices | None
    trials: LabelledTrials | None
    missing: tuple[str, ...]

    @property
    def voices(self) -> tuple[Voices, ...]:
        """Those of the labelled recordings, then the others."""
        return tuple(part for part in (self.labelled, self.unlabelled) if part is not None)


async def embed_calls(
    system: System, recordings: Recordings, cache: Cache, *, max_trials: int, seed: int = 0
) -> Calls:
    """Embed the recordings, and the first seconds of the labelled ones if they make enough pairs.

    Raises EvaluationError if no recording holds enough speech.
    """
    found: Mapping[str, Voices | None] = {
        label: await embeddings.embed(system, clips, cache, label=label) if clips else None
        for label, clips in (
            ("labelled", recordings.labelled),
            ("unlabelled", recordings.unlabelled),
        )
    }
    labelled, unlabelled = found["labelled"], found["unlabelled"]
    missing = _say_missing(recordings.labelled, labelled)
    if missing or labelled is None:
        return Calls(labelled, unlabelled, None, missing)
    pairs = _drop_same_session(make_pairs(recordings.labelled, limit=max_trials, seed=seed))
    trials = await _score_lengths(system, pairs, labelled, cache)
    return Calls(labelled, unlabelled, trials, ())


def _say_missing(clips: tuple[Clip, ...], voices: Voices | None) -> tuple[str, ...]:
    """Say how many speakers with a genuine pair are missing, if any are."""
    takes: dict[Speaker, list[str]] = {}
    for clip, acquired in zip(clips, () if voices is None else voices.acquired, strict=False):
        if acquired:
            takes.setdefault(clip.speaker, []).append(clip.labels.get(SESSION, ""))
    repeated = sum(_has_genuine_pair(sessions) for sessions in takes.values())
    if repeated >= SPEAKERS_NEEDED:
        return ()
    sessions = " of different sessions" if any(any(each) for each in takes.values()) else ""
    return (
        f"{SPEAKERS_NEEDED - repeated} more speakers with two recordings{sessions} each are needed"
        f" to judge scores and to calibrate: there are {repeated} of {SPEAKERS_NEEDED}",
    )


def _has_genuine_pair(sessions: list[str]) -> bool:
    known = [session for session in sessions if session]
    return len(set(known)) > 1 or (len(known) < len(sessions) and len(sessions) > 1)


def _drop_same_session(trials: Trials) -> Trials:
    """Leave out genuine pairs of one session: they tell the line as well as the voice."""
    if SESSION not in labels.list_columns(trials.clips):
        return trials
    return trials.select(~(trials.target & labels.label_sides(trials, SESSION).same))


async def _score_lengths(
    system: System, pairs: Trials, whole: Voices, cache: Cache
) -> LabelledTrials:
    scored, test = [], []
    async for head in calibration_set.embed_heads(system, pairs, whole, cache, LENGTHS_S):
        drawn = pairs.select(head.longer[pairs.test])
        scored.append(scores.score(drawn, whole, head.voices))
        test.append(head.voices.vectors)
    enrol = np.concatenate([part.trials.enrol for part in scored])  # a model is one clip
    clip = np.concatenate([part.trials.test for part in scored])
    length = np.repeat(np.arange(len(scored)), [len(part.trials) for part in scored])
    speaker = np.full(len(pairs.clips), -1)
    numbers = speaker_numbers(pairs.clips)
    used = np.unique(np.concatenate([enrol, clip]))
    speaker[used] = np.unique(numbers[used], return_inverse=True)[1]
    return LabelledTrials(
        whole=scored[0],
        measures=Measures.join([part.measures for part in scored]),
        target=np.concatenate([part.trials.target for part in scored]),
        sides=Sides(enrol, clip, speaker),
        enrolled=whole.vectors,
        enrol=enrol,
        test=np.concatenate(test),
        test_row=clip + length * len(pairs.clips),
        length=length,
        clip_speaker=speaker,
    )
