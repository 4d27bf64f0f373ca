import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.audio.quality import Quality
from service.contract import Calibration, Cohort, Contract, ScoreKind
from service.decisions.decision import Reason
from service.decisions.policy import QualityGate
from service.decisions.scoring import Scorer, l2_normalize
from service.decisions.thresholds import careful_threshold
from service.errors import Aborted, FailedPrecondition
from service.inference.embedder import Utterance
from service.settings import Duplicates, EnrollmentRules
from service.speakers.enrollment import (
    Enroller,
    EnrollmentRequest,
    Progress,
)
from service.speakers.lifecycle import Retention, opt_out, set_consent, undo_enrollment
from service.speakers.voiceprints import drop_outliers
from service.store import Consent, Speaker, SpeakerState, Store, Voiceprint, open_store

ALICE = EnrollmentRequest(tenant="t", speaker_id="alice")
BOB = EnrollmentRequest(tenant="t", speaker_id="bob")
CALIBRATION = Calibration(-5.0, {"cosine": 10.0}, ((0.1, 0.0), (0.01, 3.0)), "made")
"""Cosine 1 is a ratio of 5, cosine 0.5 one of 0, cosine 0 one of -5."""

UNCALIBRATED = Contract(
    model_id="m",
    sample_rate=16000,
    window_samples=32000,
    hop_samples=16000,
    min_speech_samples=8000,
    dimension=4,
)
CALIBRATED = replace(UNCALIBRATED, calibration=CALIBRATION)
YEAR_S = 365 * 86_400.0


def utterance(
    axis: int = 0, speech_s: float = 2.0, *, angle: float = 0.0, coherence: float | None = None
) -> Utterance:
    """An embedding along `axis`, turned by `angle` towards the next one."""
    quality = Quality(speech_s, speech_s + 1, snr_db=20.0, clipping=0.0, peak_dbfs=-3.0)
    axes = np.eye(4, dtype=np.float32)
    embedding = math.cos(angle) * axes[axis] + math.sin(angle) * axes[(axis + 1) % 4]
    return Utterance(l2_normalize(embedding), quality, windows=1, coherence=coherence)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path / 'sayso.db'}") as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def enroller(store: Store) -> Enroller:
    return make(store)


def make(
    store: Store,
    *,
    model_id: str = "m",
    max_vectors: int = 3,
    contract: Contract = UNCALIBRATED,
    expire_after_s: float = math.inf,
    clock: Clock | None = None,
    **rules: object,
) -> Enroller:
    return Enroller(
        store,
        contract=replace(contract, model_id=model_id),
        gate=QualityGate(min_speech_s=0.5, min_snr_db=0.0, max_clipping=0.1),
        min_speech_s=5.0,
        max_vectors=max_vectors,
        rules=EnrollmentRules(**{"match_llr": 0.0, **rules}),  # type: ignore[arg-type]
        retention=Retention(expire_after_s, clock or Clock()),
    )


async def stored(store: Store, speaker_id: str = "alice") -> Speaker:
    found = await store.get("t", speaker_id)
    assert found is not None
    return found


async def undo(store: Store) -> Speaker:
    found = await stored(store)
    return await store.put(undo_enrollment(found, now=2000.0), expected_etag=found.etag)


async def test_speech_adds_up_to_an_enrolment(enroller: Enroller) -> None:
    assert (await enroller.open(ALICE)).needed_s == 5
    for added_s, speech_s, state in (
        (2, 2, "pending"),
        (2.1, 4.1, "pending"),
        (2.2, 6.3, "enrolled"),
    ):
        made = await enroller.add(ALICE, utterance(speech_s=added_s))
        assert made.speaker is not None
        assert made.speaker.state.value == state
        assert made.progress.speech_s == pytest.approx(speech_s)
        assert made.progress.needed_s == pytest.approx(max(0, 5 - speech_s))


async def test_poor_audio_is_not_stored_and_says_why(enroller: Enroller, store: Store) -> None:
    await enroller.add(ALICE, utterance())
    made = await enroller.add(ALICE, utterance(speech_s=0.2))
    assert made.speaker is None
    assert made.reasons == (Reason.NOT_ENOUGH_SPEECH,)
    assert made.progress.speech_s == pytest.approx(2)
    found = await store.get("t", "alice")
    assert found is not None
    assert len(found.voiceprints["m"].speech_s) == 1


async def test_the_longest_vectors_are_kept_in_order(enroller: Enroller) -> None:
    for axis, speech_s in enumerate((3.0, 1.0, 4.0, 2.0)):
        made = await enroller.add(ALICE, utterance(axis, speech_s))
    assert made.speaker is not None
    kept = made.speaker.voiceprints["m"]
    assert kept.speech_s.tolist() == [3, 4, 2]
    assert kept.vectors.argmax(axis=1).tolist() == [0, 2, 3]


async def test_replacing_forgets_what_was_enrolled(enroller: Enroller, store: Store) -> None:
    await make(store, model_id="older").add(ALICE, utterance())
    await enroller.add(ALICE, utterance(speech_s=9))
    replacing = EnrollmentRequest("t", "alice", replacing=True)
    made = await enroller.add(replacing, utterance(axis=1))
    assert made.speaker is not None
    assert set(made.speaker.voiceprints) == {"m"}
    assert made.speaker.state is SpeakerState.PENDING
    assert made.progress.speech_s == pytest.approx(2)


async def test_models_keep_their_own_vectors(enroller: Enroller, store: Store) -> None:
    await enroller.add(ALICE, utterance())
    made = await make(store, model_id="newer").add(ALICE, utterance(speech_s=3))
    assert made.speaker is not None
    assert set(made.speaker.voiceprints) == {"m", "newer"}
    assert made.progress.speech_s == pytest.approx(3)


async def test_metadata_is_merged(enroller: Enroller) -> None:
    await enroller.add(EnrollmentRequest("t", "alice", metadata={"a": "1", "b": "1"}), utterance())
    changed = EnrollmentRequest("t", "alice", metadata={"b": "2"})
    made = await enroller.add(changed, utterance())
    assert made.speaker is not None
    assert made.speaker.metadata == {"a": "1", "b": "2"}


async def test_a_stale_etag_is_aborted_and_changes_nothing(
    enroller: Enroller, store: Store
) -> None:
    first = await enroller.add(ALICE, utterance())
    assert first.speaker is not None
    conditional = EnrollmentRequest("t", "alice", etag=first.speaker.etag)
    second = await enroller.add(conditional, utterance(speech_s=3))
    assert second.speaker is not None
    with pytest.raises(Aborted):
        await enroller.add(conditional, utterance(speech_s=4))
    found = await store.get("t", "alice")
    assert found is not None
    assert found.etag == second.speaker.etag


async def test_enrolments_at_once_lose_nothing(store: Store) -> None:
    enroller = make(store, max_vectors=50)
    await asyncio.gather(*(enroller.add(ALICE, utterance(speech_s=2 + n)) for n in range(20)))
    found = await store.get("t", "alice")
    assert found is not None
    assert len(found.voiceprints["m"].speech_s) == 20


async def test_a_request_id_is_enrolled_once(enroller: Enroller, store: Store) -> None:
    named = replace(ALICE, request_id="call-7")
    first = await enroller.add(named, utterance(0))
    again = await enroller.add(named, utterance(1))
    assert again.speaker == first.speaker
    await enroller.add(replace(ALICE, request_id="call-8"), utterance(1))
    assert (await stored(store)).request_ids == ("call-7", "call-8")
    assert (await enroller.add(named, utterance(2))).progress.speech_s == pytest.approx(4.0)


async def test_of_an_enrollment_that_is_taken_back_the_request_id_is_forgotten(
    enroller: Enroller, store: Store
) -> None:
    named = replace(ALICE, request_id="call-7")
    await enroller.add(named, utterance(0))
    await undo(store)
    again = await enroller.add(named, utterance(0))
    assert again.progress.speech_s == pytest.approx(2.0)


async def test_the_latest_request_ids_are_remembered(enroller: Enroller, store: Store) -> None:
    for number in range(40):
        await enroller.add(replace(ALICE, request_id=f"call-{number}"), utterance(number % 4))
    assert (await stored(store)).request_ids == tuple(f"call-{n}" for n in range(8, 40))


async def test_one_who_opted_out_is_refused(enroller: Enroller, store: Store) -> None:
    opted_out = Speaker("t", "alice", SpeakerState.OPTED_OUT, created_at=0.0, updated_at=0.0)
    await store.put(opted_out, expected_etag=None)
    with pytest.raises(FailedPrecondition, match="opted out"):
        await enroller.open(ALICE)
    with pytest.raises(FailedPrecondition, match="opted out"):
        await enroller.add(ALICE, utterance())


async def test_an_opt_out_during_the_call_is_respected(store: Store) -> None:
    enroller = make(store)
    await enroller.add(ALICE, utterance())
    await enroller.open(ALICE)
    found = await stored(store)
    await store.put(opt_out(found, now=1.0), expected_etag=found.etag)
    with pytest.raises(FailedPrecondition, match="opted out"):
        await enroller.add(ALICE, utterance())
    assert (await stored(store)).voiceprints == {}


async def test_consent_is_required_where_the_operator_says_so(store: Store) -> None:
    enroller = make(store, consent_required=True)
    with pytest.raises(FailedPrecondition, match="send `consent`"):
        await enroller.open(ALICE)
    with pytest.raises(FailedPrecondition, match="send `consent`"):
        await enroller.add(ALICE, utterance())
    assert await store.get("t", "alice") is None
    agreed = replace(ALICE, consent=Consent("form 27", 900.0))
    await enroller.open(agreed)
    await enroller.add(agreed, utterance())
    made = await enroller.add(ALICE, utterance())
    assert made.speaker is not None
    assert made.speaker.consent == Consent("form 27", 900.0)


async def test_an_enrolment_waits_for_confirmation_before_first_use(store: Store) -> None:
    enroller = make(store, confirm=True)
    first = await enroller.add(ALICE, utterance(speech_s=2))
    assert first.speaker is not None
    assert first.speaker.state is SpeakerState.PENDING
    complete = await enroller.add(ALICE, utterance(speech_s=4))
    assert complete.speaker is not None
    assert complete.speaker.state is SpeakerState.UNCONFIRMED
    assert "confirmation" in complete.explanation


async def test_a_confirmation_once_asked_for_is_not_forgotten(store: Store) -> None:
    enroller = make(store)
    await enroller.add(replace(ALICE, confirm=True), utterance(speech_s=2))
    made = await enroller.add(ALICE, utterance(speech_s=4))
    assert made.speaker is not None
    assert made.speaker.state is SpeakerState.UNCONFIRMED


async def test_speech_for_a_voice_in_use_needs_no_confirmation_but_a_new_voice_does(
    store: Store,
) -> None:
    await make(store).add(ALICE, utterance(speech_s=9))
    enroller = make(store, confirm=True)
    more = await enroller.add(ALICE, utterance())
    assert more.speaker is not None
    assert more.speaker.state is SpeakerState.ENROLLED
    other = await enroller.add(replace(ALICE, replacing=True), utterance(1, speech_s=9))
    assert other.speaker is not None
    assert other.speaker.state is SpeakerState.UNCONFIRMED


async def test_another_voice_is_not_added(store: Store) -> None:
    enroller = make(store, contract=CALIBRATED)
    await enroller.add(ALICE, utterance(0, speech_s=3))
    before = await stored(store)
    made = await enroller.add(ALICE, utterance(0, angle=1.06))  # cosine 0.489
    assert made.speaker is None
    assert made.reasons == (Reason.VOICE_MISMATCH,)
    assert made.progress.speech_s == pytest.approx(3)
    assert await stored(store) == before
    assert (await enroller.add(ALICE, utterance(0, angle=1.03))).speaker is not None  # 0.515


async def test_another_voice_may_replace_the_one_enrolled(store: Store) -> None:
    enroller = make(store, contract=CALIBRATED)
    await enroller.add(ALICE, utterance(0))
    assert (await enroller.add(replace(ALICE, replacing=True), utterance(1))).speaker is not None


async def test_without_a_calibration_any_voice_is_added(enroller: Enroller) -> None:
    await enroller.add(ALICE, utterance(0))
    assert (await enroller.add(ALICE, utterance(1, coherence=-1.0))).speaker is not None


async def test_a_recording_of_several_voices_is_not_added(store: Store) -> None:
    enroller = make(store, contract=CALIBRATED)
    made = await enroller.add(ALICE, utterance(coherence=0.59))
    assert made.reasons == (Reason.MULTIPLE_VOICES,)
    assert await store.get("t", "alice") is None
    assert (await enroller.add(ALICE, utterance(coherence=0.61))).speaker is not None


COHORT = l2_normalize(np.random.default_rng(2).normal(0.4, 1, (40, 4)).astype(np.float32))
NORMALISED = replace(
    CALIBRATED,
    calibration=replace(CALIBRATION, bias=-1.0, weights={"cosine": 2.0}, score=ScoreKind.AS_NORM),
    cohort=Cohort(COHORT.astype("<f4").tobytes(), len(COHORT), 10, "made"),
)
ANGLES = np.linspace(0, 1.5, 16)


def normalised_ratio(axis: int, angle: float) -> float:
    enrolled, heard = utterance(axis).embedding, utterance(axis, angle=angle).embedding
    assert enrolled is not None
    assert heard is not None
    return Scorer(NORMALISED).compare(
        enrolled, heard, enroll_speech_s=9.0, test_speech_s=2.0, snr_db=20.0
    )


async def test_a_voice_is_matched_by_the_score_of_the_calibration(store: Store) -> None:
    enroller = make(store, contract=NORMALISED, max_vectors=50)
    ratios = [normalised_ratio(0, angle) for angle in ANGLES]
    assert min(ratios) < 0 < max(ratios)
    assert [ratio >= 0 for ratio in ratios] != [2 * np.cos(a) - 1 >= 0 for a in ANGLES]
    for number, (angle, ratio) in enumerate(zip(ANGLES, ratios, strict=True)):
        request = EnrollmentRequest("t", f"speaker {number}")
        await enroller.add(request, utterance(0, speech_s=9))
        made = await enroller.add(request, utterance(0, angle=angle))
        assert (made.speaker is not None) == (ratio >= 0), angle


async def test_a_duplicate_is_found_by_the_score_of_the_calibration(store: Store) -> None:
    enroller = make(store, contract=NORMALISED, duplicate_alarm_rate=0.9)
    await enroller.add(BOB, utterance(0, speech_s=9))
    least = careful_threshold(CALIBRATION, 0.9)
    request = replace(ALICE, duplicates=Duplicates.REFUSE)
    for angle in ANGLES[::-1]:
        made = await enroller.add(replace(request, replacing=True), utterance(0, angle=angle))
        assert (made.duplicates == ("bob",)) == (normalised_ratio(0, angle) >= least), angle
    assert made.duplicates


async def test_windows_cohere_by_the_score_of_the_calibration(store: Store) -> None:
    enroller, scorer = make(store, contract=NORMALISED), Scorer(NORMALISED)
    heard = utterance(0)
    assert heard.embedding is not None
    refused = []
    for coherence in np.linspace(0.1, 1.0, 10):
        ratio = scorer.coherence_llr(heard.embedding, coherence)
        made = await enroller.add(ALICE, replace(heard, coherence=coherence))
        assert (made.reasons == (Reason.MULTIPLE_VOICES,)) == (ratio < 1), coherence
        refused.append(ratio < 1)
    assert True in refused
    assert False in refused


async def test_vectors_that_no_longer_fit_are_dropped(store: Store) -> None:
    """The first recording is noise: what follows matches it just so, and then shows it up."""
    enroller = make(store, contract=CALIBRATED, max_vectors=50)
    for angle in (0.0, 0.9, 1.4):
        made = await enroller.add(ALICE, utterance(0, angle=angle))
        assert made.speaker is not None, angle
    kept = (await stored(store)).voiceprints["m"]
    assert len(kept.speech_s) == 2
    assert kept.vectors[:, 0].max() < 0.7


def test_outliers_are_those_that_a_naive_search_finds() -> None:
    """Against a double loop, over vectors of two voices."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        centre = rng.normal(size=4)
        vectors = centre + rng.normal(scale=1.2, size=(6, 4))
        held = Voiceprint(
            "m",
            l2_normalize(vectors.astype(np.float32)),
            rng.uniform(1, 5, 6).astype(np.float32),
            0.0,
        )

        def ratio(others: Voiceprint, heard: np.ndarray, *_: object) -> float:
            mean = np.average(others.vectors, axis=0, weights=others.speech_s)
            return 10 * float(mean @ heard / np.linalg.norm(mean)) - 5

        left = list(range(6))
        while len(left) > 2:
            ratios = []
            for index in left:
                others = [other for other in left if other != index]
                mean = sum(held.speech_s[other] * held.vectors[other] for other in others)
                ratios.append(10 * float(mean @ held.vectors[index] / np.linalg.norm(mean)) - 5)
            if min(ratios) >= 0:
                break
            del left[ratios.index(min(ratios))]
        kept = drop_outliers(held, ratio, min_llr=0.0)
        np.testing.assert_array_equal(kept.speech_s, held.speech_s[left])
        np.testing.assert_array_equal(kept.vectors, held.vectors[left])


@pytest.mark.parametrize("policy", [Duplicates.FLAG, Duplicates.REFUSE])
async def test_a_voice_under_another_id_is_found(store: Store, policy: Duplicates) -> None:
    enroller = make(store, contract=CALIBRATED)
    for number in range(20):
        name = EnrollmentRequest("t", f"other-{number}")
        await enroller.add(name, utterance(1 + number % 3))
    await enroller.add(EnrollmentRequest("other tenant", "eve"), utterance(0))
    await enroller.add(BOB, utterance(0, angle=0.02))
    request = replace(ALICE, duplicates=policy)
    lenient = make(store, contract=CALIBRATED, duplicate_alarm_rate=0.5)
    made = await lenient.add(request, utterance(0))
    assert made.duplicates == ("bob",)
    assert made.reasons == (Reason.ALREADY_ENROLLED,)
    assert (made.speaker is None) == (policy is Duplicates.REFUSE)
    assert ((await store.get("t", "alice")) is None) == (policy is Duplicates.REFUSE)
    again = await lenient.add(replace(BOB, duplicates=policy), utterance(0))
    assert again.duplicates == (() if policy is Duplicates.REFUSE else ("alice",))


async def test_the_search_for_a_voice_is_an_operators_rule_that_a_request_can_lift(
    store: Store,
) -> None:
    enroller = make(
        store, contract=CALIBRATED, duplicates=Duplicates.REFUSE, duplicate_alarm_rate=0.5
    )
    await enroller.add(BOB, utterance(0))
    assert (await enroller.add(ALICE, utterance(0))).speaker is None
    allowed = replace(ALICE, duplicates=Duplicates.ALLOW)
    assert (await enroller.add(allowed, utterance(0))).speaker is not None


async def test_a_search_that_cannot_be_complete_is_refused(store: Store) -> None:
    request = replace(ALICE, duplicates=Duplicates.FLAG)
    with pytest.raises(FailedPrecondition, match="calibrat"):
        await make(store).add(request, utterance())
    enroller = make(store, contract=CALIBRATED, duplicate_limit=2)
    for name in ("b", "c", "d"):
        await enroller.add(EnrollmentRequest("t", name), utterance())
    with pytest.raises(FailedPrecondition, match="SAYSO_DUPLICATE_LIMIT"):
        await enroller.add(request, utterance())


async def test_an_expired_voice_counts_for_nothing(store: Store, clock: Clock) -> None:
    enroller = make(store, contract=CALIBRATED, expire_after_s=3 * YEAR_S, clock=clock)
    await enroller.add(ALICE, utterance(0, speech_s=9))
    clock.now += 3 * YEAR_S
    assert enroller.voices.measure(await stored(store)).speech_s == 0
    assert (await enroller.open(ALICE)).speech_s == 0
    found = await make(store, contract=CALIBRATED, expire_after_s=3 * YEAR_S, clock=clock).add(
        replace(BOB, duplicates=Duplicates.REFUSE), utterance(0)
    )
    assert found.duplicates == ()
    again = await enroller.add(ALICE, utterance(1, speech_s=2))
    assert again.speaker is not None
    assert again.speaker.state is SpeakerState.PENDING
    assert again.progress.speech_s == pytest.approx(2)
    assert again.speaker.history[-1].voiceprints["m"].speech_s.tolist() == [9]


async def test_a_recording_that_is_sent_again_adds_nothing(
    enroller: Enroller, store: Store
) -> None:
    first = await enroller.add(ALICE, utterance())
    again = await enroller.add(ALICE, utterance())
    assert (again.speaker, again.progress) == (first.speaker, first.progress)
    once = await enroller.add(replace(ALICE, replacing=True), utterance(1, speech_s=6))
    twice = await enroller.add(replace(ALICE, replacing=True), utterance(1, speech_s=6))
    assert twice.speaker == once.speaker
    told = await enroller.add(
        replace(ALICE, consent=Consent("form 7", 3.0), metadata={"a": "1"}),
        utterance(1, speech_s=6),
    )
    assert told.speaker is not None
    assert once.speaker is not None
    assert (told.speaker.consent, told.speaker.metadata) == (Consent("form 7", 3.0), {"a": "1"})
    assert (told.speaker.voiceprints, told.speaker.history) == (
        once.speaker.voiceprints,
        once.speaker.history,
    )


async def test_a_withdrawn_consent_is_no_basis_for_more(enroller: Enroller, store: Store) -> None:
    made = await enroller.add(replace(ALICE, consent=Consent("form 7", 3.0)), utterance(speech_s=6))
    assert made.speaker is not None
    await store.put(set_consent(made.speaker, None, now=9.0), expected_etag=made.speaker.etag)
    with pytest.raises(FailedPrecondition, match="withdrawn"):
        await enroller.add(ALICE, utterance(speech_s=7))
    again = await enroller.add(
        replace(ALICE, consent=Consent("form 8", 10.0)), utterance(speech_s=7)
    )
    assert again.speaker is not None
    assert again.speaker.consent_withdrawn_at is None


async def test_nobody_is_told_of_a_voice_that_may_not_be_used(store: Store) -> None:
    enroller = make(store, contract=CALIBRATED)
    made = await enroller.add(ALICE, utterance(0, speech_s=9))
    assert made.speaker is not None
    bob = replace(BOB, duplicates=Duplicates.REFUSE)
    assert (await enroller.add(bob, utterance(0, speech_s=8))).duplicates == ("alice",)
    await store.put(set_consent(made.speaker, None, now=9.0), expected_etag=made.speaker.etag)
    assert (await enroller.add(bob, utterance(0, speech_s=8))).duplicates == ()


async def test_undo_goes_back_enrolment_by_enrolment(store: Store) -> None:
    enroller = make(store, max_vectors=1)
    versions = []
    for request, axis, speech_s in (
        (ALICE, 0, 4.0),
        (ALICE, 1, 6.0),
        (replace(ALICE, replacing=True), 2, 3.0),
    ):
        await enroller.add(request, utterance(axis, speech_s))
        versions.append(await stored(store))
    assert [made.state.value for made in versions] == ["pending", "enrolled", "pending"]
    for before in reversed(versions[:-1]):
        after = await undo(store)
        assert (after.state, after.voiceprints) == (before.state, before.voiceprints)
        assert after.enrolled_at == before.enrolled_at
    first = await undo(store)
    assert first.state is SpeakerState.PENDING
    assert first.voiceprints == {}
    with pytest.raises(FailedPrecondition):
        await undo(store)


async def test_enough_speech_is_what_completes_an_enrolment(store: Store) -> None:
    enroller = make(store)
    await enroller.add(ALICE, utterance(speech_s=3))
    before = await enroller.open(ALICE)
    quality = utterance(speech_s=2).quality
    assert enroller.would_complete(before, quality)
    assert not enroller.would_complete(before, replace(quality, net_speech_s=1.9))
    assert not enroller.would_complete(before, replace(quality, clipping=0.5))
    assert not enroller.would_complete(await enroller.open(BOB), quality)
    complete = Progress(9.0, 0.0)
    assert not enroller.would_complete(complete, replace(quality, net_speech_s=0.4))
