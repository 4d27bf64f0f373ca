from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from service.audio.quality import Quality
from service.calls.identification import Identifier
from service.calls.screening import Findings, Screening
from service.contract import Calibration, Contract
from service.decisions.decision import Outcome
from service.decisions.policy import Policy, QualityGate, SequentialTest, ThresholdSource
from service.errors import InvalidArgument, NotFound
from service.inference.embedder import Utterance
from service.speakers.lifecycle import Retention
from service.store import Group, Speaker, SpeakerState, Voiceprint, open_store

CONTRACT = Contract(
    model_id="m",
    sample_rate=16000,
    window_samples=32000,
    hop_samples=16000,
    min_speech_samples=8000,
    dimension=4,
    calibration=Calibration(-10.0, {"cosine": 20.0}, ((0.1, 0.0), (0.01, 3.0)), "made"),
)
FIXED = Policy(0.02, ThresholdSource.REQUEST, QualityGate(1.0, 0.0, 0.1))
SEQUENTIAL = Policy(0.02, ThresholdSource.REQUEST, FIXED.gate, SequentialTest(0.01, 0.01, 10.0))
AXES = np.eye(4, dtype=np.float32)
ALICE, UNSURE, STRANGER = 1.0, 0.55, 0.0
"""Cosines with alice: a ratio of 10, one of 1 and one of -10."""


def heard(cosine: float, *, speech_s: float = 3.0) -> Utterance:
    embedding = cosine * AXES[0] + np.sqrt(1 - cosine**2) * AXES[3]
    quality = Quality(speech_s, speech_s, snr_db=20.0, clipping=0.0, peak_dbfs=-3.0)
    return Utterance(embedding.astype(np.float32), quality, windows=1)


@pytest.fixture
async def identifier(tmp_path: Path) -> AsyncIterator[Identifier]:
    async with (
        open_store(f"sqlite:///{tmp_path}/voices.db") as store,
        Identifier(store, CONTRACT, policy=FIXED, retention=Retention()) as made,
    ):
        for group, names in {"callers": ("alice", "bob"), "fraud": ("alice",)}.items():
            await store.groups.create("t", Group(group, "", 0.0))
            for axis, name in enumerate(names):
                held = Voiceprint("m", AXES[axis : axis + 1], np.array([6], np.float32), 0.0)
                speaker = Speaker("t", name, SpeakerState.ENROLLED, 0.0, 0.0, {"m": held})
                if await store.get("t", name) is None:
                    await store.put(speaker, expected_etag=None)
            await store.groups.add("t", group, list(names))
        yield made


def screening(identifier: Identifier, policy: Policy, group: str = "callers") -> Screening:
    return Screening(identifier, "t", policy, watchlists=["fraud"], group=group, max_candidates=2)


def outcome(findings: Findings) -> Outcome:
    assert findings.identification is not None
    return findings.identification.decision.outcome


async def test_watchlists_and_a_group_are_searched_by_one_embedding(
    identifier: Identifier,
) -> None:
    found = await screening(identifier, FIXED).search_so_far(heard(ALICE))
    assert [(match.group, match.speaker_id) for match in found.matches] == [("fraud", "alice")]
    assert found.identification is not None
    assert [match.speaker_id for match in found.identification.candidates] == ["alice", "bob"]
    assert found.matches[0].score == found.identification.candidates[0].score


async def test_a_fixed_identification_follows_the_speech(identifier: Identifier) -> None:
    call = screening(identifier, FIXED)
    assert not call.is_decided
    assert outcome(await call.search_so_far(heard(STRANGER))) is Outcome.REJECTED
    assert call.is_decided
    assert outcome(await call.search_so_far(heard(ALICE))) is Outcome.ACCEPTED
    assert outcome(await call.finish(heard(STRANGER))) is Outcome.REJECTED


async def test_a_sequential_identification_stands_and_watchlists_go_on(
    identifier: Identifier,
) -> None:
    call = screening(identifier, SEQUENTIAL)
    assert outcome(await call.search_so_far(heard(UNSURE))) is Outcome.INCONCLUSIVE
    assert not call.is_decided
    reached = await call.search_so_far(heard(ALICE))
    assert outcome(reached) is Outcome.ACCEPTED
    assert call.is_decided
    later = await call.search_so_far(heard(STRANGER))
    assert later.identification is reached.identification
    assert later.matches == ()
    assert (await call.finish(heard(STRANGER))).identification is reached.identification


async def test_what_was_undecided_ends_with_the_fixed_decision(identifier: Identifier) -> None:
    call = screening(identifier, SEQUENTIAL)
    assert outcome(await call.search_so_far(heard(UNSURE))) is Outcome.INCONCLUSIVE
    assert outcome(await call.finish(heard(UNSURE))) is Outcome.REJECTED
    capped = screening(identifier, SEQUENTIAL)
    assert outcome(await capped.search_so_far(heard(UNSURE, speech_s=10.0))) is Outcome.REJECTED


async def test_nothing_is_searched_that_was_not_asked_for(identifier: Identifier) -> None:
    assert await Screening(identifier, "t", FIXED).search_so_far(heard(ALICE)) == Findings()
    alone = await screening(identifier, FIXED, group="").search_so_far(heard(ALICE))
    assert alone.identification is None
    assert len(alone.matches) == 1


async def test_what_cannot_be_searched_is_told_first(identifier: Identifier) -> None:
    with pytest.raises(NotFound):
        await screening(identifier, FIXED, group="none").prepare()
    await screening(identifier, FIXED).prepare()
    with pytest.raises(InvalidArgument) as caught:
        Screening(identifier, "t", FIXED, group="callers", max_candidates=101)
    assert caught.value.field == "config.max_candidates"
