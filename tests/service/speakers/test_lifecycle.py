"""Steps from record to record, and what time does; the clock is the test's."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import numpy as np
import pytest

from service.errors import Aborted, FailedPrecondition, NotFound
from service.speakers.expiry import Audit, erase_expired, survey_voices
from service.speakers.lifecycle import (
    UNDO_LEVELS,
    Retention,
    change_speaker,
    confirm_enrollment,
    opt_in,
    opt_out,
    record_enrollment,
    undo_enrollment,
)
from service.store import (
    Consent,
    RecordError,
    Speaker,
    SpeakerState,
    Store,
    Version,
    Voiceprint,
)
from service.store.records import decode_history, encode_history

MakeSpeaker = Callable[..., Speaker]
DAY_S = 86_400.0
MADE_AT = 1_700_000_000.25


def retention(days_later: float, *, keep_days: float = 100) -> Retention:
    return Retention(keep_days * DAY_S, lambda: MADE_AT + days_later * DAY_S)


async def survey_and_erase(
    store: Store, tenant: str, keeping: Retention, *, audit: Audit = contextlib.nullcontext
) -> int:
    found = await survey_voices(store, tenant, keeping, since=keeping.clock())
    return await erase_expired(store, tenant, found, keeping, audit=audit)


def with_voice(speaker: Speaker, *values: float, adapted: bool = False, now: float) -> Speaker:
    vectors = np.array([values], np.float32)
    held = Voiceprint("model-a", vectors, np.ones(1, np.float32), now)
    after = replace(speaker, voiceprints={"model-a": held}, state=SpeakerState.ENROLLED)
    return record_enrollment(speaker, after, now=now, adapted=adapted)


def test_a_voice_expires_so_long_after_it_was_made(make_speaker: MakeSpeaker) -> None:
    speaker = make_speaker()
    assert retention(99.9).state(speaker) is SpeakerState.ENROLLED
    assert retention(100).state(speaker) is SpeakerState.EXPIRED
    assert retention(0).expires_at(speaker) == MADE_AT + 100 * DAY_S


def test_a_use_or_an_enrolment_puts_it_off(make_speaker: MakeSpeaker) -> None:
    speaker = make_speaker()
    held = replace(speaker.voiceprints["model-a"], used_at=MADE_AT + 50 * DAY_S)
    for later in (
        replace(speaker, voiceprints={"model-a": held}),
        replace(speaker, enrolled_at=MADE_AT + 50 * DAY_S),
    ):
        assert retention(149.9).state(later) is SpeakerState.ENROLLED
        assert retention(150).state(later) is SpeakerState.EXPIRED


def test_an_operators_change_does_not_put_it_off(make_speaker: MakeSpeaker) -> None:
    speaker = make_speaker(updated_at=MADE_AT + 99 * DAY_S)
    assert retention(100).state(speaker) is SpeakerState.EXPIRED


@pytest.mark.parametrize("state", [SpeakerState.PENDING, SpeakerState.UNCONFIRMED])
def test_a_voice_never_used_expires_too(make_speaker: MakeSpeaker, state: SpeakerState) -> None:
    assert retention(100).state(make_speaker(state=state)) is SpeakerState.EXPIRED


@pytest.mark.parametrize("state", [SpeakerState.PENDING, SpeakerState.OPTED_OUT])
def test_one_without_a_voice_never_expires(make_speaker: MakeSpeaker, state: SpeakerState) -> None:
    speaker = make_speaker(state=state, voiceprints={})
    assert retention(10_000).state(speaker) is state
    assert retention(0).expires_at(speaker) == math.inf


def test_nothing_expires_where_the_operator_says_never(make_speaker: MakeSpeaker) -> None:
    assert Retention().state(make_speaker()) is SpeakerState.ENROLLED


def test_an_opt_out_erases_the_voice_and_is_remembered(make_speaker: MakeSpeaker) -> None:
    speaker = make_speaker(
        consent=Consent("form 27", 1.0), metadata={"a": "b"}, awaits_confirmation=True
    )
    gone = opt_out(with_voice(speaker, 1, 0, now=2.0), now=3.0)
    assert gone.state is SpeakerState.OPTED_OUT
    assert (gone.voiceprints, gone.history, gone.consent) == ({}, (), None)
    assert (gone.opted_out_at, gone.updated_at, gone.enrolled_at) == (3.0, 3.0, None)
    assert not gone.awaits_confirmation
    assert gone.metadata == {"a": "b"}
    assert opt_out(gone, now=9.0) == gone
    back = opt_in(gone, now=4.0)
    assert back.state is SpeakerState.PENDING
    assert back.opted_out_at is None
    assert opt_in(back, now=5.0) == back


@pytest.mark.parametrize(
    "state", [SpeakerState.ENROLLED, SpeakerState.UNCONFIRMED, SpeakerState.EXPIRED]
)
def test_only_one_who_opted_out_opts_in(make_speaker: MakeSpeaker, state: SpeakerState) -> None:
    with pytest.raises(FailedPrecondition, match=state.value):
        opt_in(make_speaker(state=state), now=1.0)


def test_a_confirmation_releases_an_enrolment_once(make_speaker: MakeSpeaker) -> None:
    waiting = make_speaker(state=SpeakerState.UNCONFIRMED, awaits_confirmation=True)
    released = confirm_enrollment(waiting, now=5.0)
    assert released.state is SpeakerState.ENROLLED
    assert not released.awaits_confirmation
    for state in set(SpeakerState) - {SpeakerState.UNCONFIRMED}:
        with pytest.raises(FailedPrecondition, match=state.value):
            confirm_enrollment(replace(waiting, state=state), now=6.0)


def test_a_few_enrolments_can_be_taken_back(make_speaker: MakeSpeaker) -> None:
    versions = [make_speaker(state=SpeakerState.PENDING, voiceprints={})]
    for number in range(UNDO_LEVELS + 2):
        versions.append(with_voice(versions[-1], number, now=float(number)))
    speaker = versions.pop()
    for _ in range(UNDO_LEVELS):
        speaker, before = undo_enrollment(speaker, now=99.0), versions.pop()
        assert speaker.voiceprints == before.voiceprints
        assert speaker.state is before.state
        assert speaker.enrolled_at == before.enrolled_at
    with pytest.raises(FailedPrecondition):
        undo_enrollment(speaker, now=99.0)


def test_adaptations_in_a_row_are_taken_back_as_one(make_speaker: MakeSpeaker) -> None:
    first = with_voice(make_speaker(), 1, now=1.0)
    adapted = first
    for number in range(10):
        adapted = with_voice(adapted, 2, number, adapted=True, now=2.0)
    assert undo_enrollment(adapted, now=3.0).voiceprints == first.voiceprints
    again = with_voice(with_voice(adapted, 3, now=4.0), 4, adapted=True, now=5.0)
    assert undo_enrollment(again, now=6.0).voiceprints["model-a"].vectors.tolist() == [[3]]
    assert (
        undo_enrollment(undo_enrollment(again, now=6.0), now=7.0).voiceprints == adapted.voiceprints
    )


def test_a_torn_history_is_refused(make_speaker: MakeSpeaker) -> None:
    voiceprints = make_speaker(vectors=2).voiceprints
    history = (Version(SpeakerState.PENDING), Version(SpeakerState.ENROLLED, voiceprints))
    record = encode_history(history)
    assert decode_history(record) == history
    for torn in (*(record[:length] for length in range(1, len(record))), record + b"\0"):
        with pytest.raises(RecordError):
            decode_history(torn)


async def test_a_history_is_stored(store: Store, make_speaker: MakeSpeaker) -> None:
    speaker = await store.put(make_speaker(vectors=3), expected_etag=None)
    await store.touch(speaker.tenant, "alice", "model-a", at=5.0)
    found = await store.get(speaker.tenant, "alice")
    assert found is not None
    grown = await store.put(with_voice(found, 7, 8, now=6.0), expected_etag=found.etag)
    assert await store.get(speaker.tenant, "alice") == replace(
        grown,
        voiceprints={"model-a": replace(grown.voiceprints["model-a"], used_at=5.0)},
    )
    page = await store.list(speaker.tenant, limit=10)
    assert [listed.history for listed in page.speakers] == [grown.history]
    back = await change_speaker(
        store,
        speaker.tenant,
        "alice",
        lambda found: undo_enrollment(found, now=9.0),
        etag=grown.etag,
    )
    assert (await store.get(speaker.tenant, "alice")) == replace(
        back, voiceprints={"model-a": replace(speaker.voiceprints["model-a"], used_at=5.0)}
    )


async def test_undos_at_once_take_back_one_enrolment_each(
    store: Store, make_speaker: MakeSpeaker
) -> None:
    speaker = make_speaker()
    for number in range(3):
        speaker = with_voice(speaker, number, now=float(number))
    written = await store.put(speaker, expected_etag=None)
    outcomes = await asyncio.gather(
        *(
            change_speaker(
                store, written.tenant, "alice", lambda found: undo_enrollment(found, now=9.0)
            )
            for _ in range(5)
        ),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes].count(FailedPrecondition) == 2, outcomes
    found = await store.get(written.tenant, "alice")
    assert found is not None
    assert found.history == ()
    np.testing.assert_array_equal(
        found.voiceprints["model-a"].vectors, make_speaker().voiceprints["model-a"].vectors
    )


async def test_changes_name_what_is_missing_or_stale(
    store: Store, make_speaker: MakeSpeaker
) -> None:
    new = make_speaker()

    def step(found: Speaker) -> Speaker:
        return replace(found, metadata={"n": "2"})

    with pytest.raises(NotFound):
        await change_speaker(store, new.tenant, "alice", step)
    with pytest.raises(Aborted):
        await change_speaker(store, new.tenant, "alice", step, etag="stale", new=new)
    first = await change_speaker(store, new.tenant, "alice", step, new=new)
    assert first.metadata == {"n": "2"}
    with pytest.raises(Aborted):
        await change_speaker(store, new.tenant, "alice", step, etag="stale")
    second = await change_speaker(store, new.tenant, "alice", step, etag=first.etag)
    assert second.etag != first.etag


async def test_expired_voices_are_erased_and_no_others(
    store: Store, make_speaker: MakeSpeaker
) -> None:
    tenant = make_speaker().tenant
    old = with_voice(make_speaker("old"), 1, now=MADE_AT)
    kept = with_voice(make_speaker("kept"), 1, now=MADE_AT + DAY_S)
    silent = make_speaker("silent", voiceprints={}, state=SpeakerState.OPTED_OUT)
    for speaker in (old, kept, silent):
        await store.put(speaker, expected_etag=None)
    assert await survey_and_erase(store, tenant, retention(100)) == 1
    assert await survey_and_erase(store, tenant, retention(100)) == 0
    page = await store.list(tenant, limit=10)
    states = {speaker.speaker_id: speaker.state for speaker in page.speakers}
    assert states == {
        "kept": SpeakerState.ENROLLED,
        "old": SpeakerState.EXPIRED,
        "silent": SpeakerState.OPTED_OUT,
    }
    erased = next(speaker for speaker in page.speakers if speaker.speaker_id == "old")
    assert (erased.voiceprints, erased.history) == ({}, ())


async def test_each_erasure_happens_inside_what_is_put_around_it(
    store: Store, make_speaker: MakeSpeaker
) -> None:
    tenant, seen = make_speaker().tenant, []

    @contextlib.asynccontextmanager
    async def audit(speaker_id: str) -> AsyncIterator[None]:
        seen.append(await state_of(speaker_id))
        yield
        seen.append(await state_of(speaker_id))

    async def state_of(speaker_id: str) -> SpeakerState | None:
        found = await store.get(tenant, speaker_id)
        return found and found.state  # type: ignore[return-value]

    await store.put(with_voice(make_speaker("old"), 1, now=MADE_AT), expected_etag=None)
    assert await survey_and_erase(store, tenant, retention(100), audit=audit) == 1
    assert seen == [SpeakerState.ENROLLED, SpeakerState.EXPIRED]
