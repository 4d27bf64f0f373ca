"""Calls, embedded, and the pairs of labelled ones."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.scoring import embeddings
from evaluation.scoring.cache import Cache, Voice
from evaluation.scoring.embeddings import Voices
from evaluation.trials.manifest import Clip, Speaker
from evaluation.tuning import calls
from evaluation.tuning.calls import SPEAKERS_NEEDED, Calls
from evaluation.tuning.recordings import Recordings


class Unused:
    """A system that is never asked: its voices are made."""

    model_id, cut, rate = "none", "", 16_000

    async def embed(self, samples: NDArray[np.float32]) -> Voice:
        raise AssertionError(samples)


@pytest.fixture
def embed(
    world: Callable, monkeypatch: pytest.MonkeyPatch
) -> Callable[[tuple[Clip, ...], Voices], Calls]:
    def run(clips: tuple[Clip, ...], voices: Voices) -> Calls:
        async def embed_made(
            system: object, asked: tuple[Clip, ...], cache: Cache, **rest: object
        ) -> Voices:
            assert asked == clips
            wanted = rest.get("wanted", np.ones(len(clips), bool))
            return replace(voices, acquired=voices.acquired & wanted)

        monkeypatch.setattr(embeddings, "embed", embed_made)
        with Cache.open(None) as cache:
            found = calls.embed_calls(Unused(), Recordings(clips, ()), cache, max_trials=10**6)
            return asyncio.run(found)

    return run


def with_sessions(clips: tuple[Clip, ...], sessions: str) -> tuple[Clip, ...]:
    return tuple(
        replace(clip, labels={"session": sessions[place % len(sessions)].strip()})
        for place, clip in enumerate(clips)
    )


def test_sides_are_those_of_the_scores(world: Callable, embed: Callable) -> None:
    clips, voices = world(SPEAKERS_NEEDED, 3)
    trials = embed(clips, voices).trials
    cosine = np.vecdot(trials.enrolled[trials.enrol], trials.test[trials.test_row])
    assert cosine == pytest.approx(trials.measures.cosine, abs=1e-6)
    assert trials.is_whole.sum() == 60 * 59 // 2 < len(trials.target)
    enrolled, test = trials.sides.speakers
    assert ((enrolled == test) == trials.target).all()
    named = [clips[row].speaker for row in np.flatnonzero(trials.clip_speaker == enrolled[0])]
    assert set(named) == {clips[trials.enrol[0]].speaker}


def test_too_few_speakers_with_two_recordings_are_said(world: Callable, embed: Callable) -> None:
    clips, voices = world(SPEAKERS_NEEDED, 2)
    lone = (*clips[:-1], replace(clips[-1], speaker=Speaker("", "another")))
    found = embed(lone, voices)
    assert found.trials is None
    assert found.missing[0].startswith("1 more speakers with two recordings each are needed")
    assert f"there are {SPEAKERS_NEEDED - 1} of {SPEAKERS_NEEDED}" in found.missing[0]
    unheard = voices.acquired.copy()
    unheard[0] = False
    assert embed(clips, replace(voices, acquired=unheard)).missing


def test_two_recordings_of_one_session_are_no_genuine_pair(
    world: Callable, embed: Callable
) -> None:
    clips, voices = world(SPEAKERS_NEEDED, 3)
    assert "of different sessions each" in embed(with_sessions(clips, "aaa"), voices).missing[0]
    trials = embed(with_sessions(clips, "aab"), voices).trials
    whole = trials.whole.trials
    assert whole.target.sum() == 2 * SPEAKERS_NEEDED  # of three pairs, one is of one session
    assert (~whole.target).sum() == 60 * 59 // 2 - 3 * SPEAKERS_NEEDED
