"""The life of a voice: pure steps from one version of a speaker to the next, and expiry.

    (none) ──enroll─> PENDING ──enough──┬──────────────────────> ENROLLED ──unused──> EXPIRED
                         ^              └─> UNCONFIRMED ─confirm────^  │                  │
                         │                                            │                  │
                         └──opt in── OPTED_OUT <──opt out── (any) <───┴──────────────────┘

An undo restores the state before the latest enrollment. EXPIRED follows from the clock, and is
written only when the voice is erased. WITHOUT_CONSENT follows from the consent, and is never
written: any state with a voice counts as it until a consent is recorded.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from service.errors import ErrorReason, FailedPrecondition, NotFound
from service.store import Store, update
from service.store.records import Consent, Speaker, SpeakerState, Version

UNDO_LEVELS = 3
"""How many enrollments can be undone."""


@dataclass(frozen=True, slots=True)
class Retention:
    """An unused voice expires after `expire_after_s`; with `consent_required` one without a consent
    is not used. `clock` gives seconds since the epoch.

    The three years of the Illinois Biometric Information Privacy Act, 740 ILCS 14/15(a), run
    from the last interaction: an enrollment or a verification.
    """

    expire_after_s: float = math.inf
    clock: Callable[[], float] = time.time
    consent_required: bool = False

    def state(self, speaker: Speaker) -> SpeakerState:
        """The state now, by the clock and the consent."""
        if self.clock() >= self.expires_at(speaker):
            return SpeakerState.EXPIRED
        if speaker.voiceprints and self.lacks_consent(speaker):
            return SpeakerState.WITHOUT_CONSENT
        return speaker.state

    def lacks_consent(self, speaker: Speaker) -> bool:
        """Whether the consent was withdrawn, or is required and was never given."""
        withdrawn = speaker.consent_withdrawn_at is not None
        return speaker.consent is None and (withdrawn or self.consent_required)

    def expires_at(self, speaker: Speaker) -> float:
        """When the voice expires unless it is used; infinity without a voice."""
        if not speaker.voiceprints:
            return math.inf
        return last_used_at(speaker) + self.expire_after_s


FOR_EVER = Retention()


def record_enrollment(
    before: Speaker, after: Speaker, *, now: float, adapted: bool = False
) -> Speaker:
    """Return `after`, enrolled or adapted at `now`, with the voice of `before` in its history.

    Adaptations in a row are one step of undo: only the first adds to the history.
    """
    history = before.history
    if not (adapted and history and history[-1].adapted):
        history = (*history, _make_version(before, adapted=adapted))[-UNDO_LEVELS:]
    return replace(after, history=history, enrolled_at=now, updated_at=now)


def undo_enrollment(speaker: Speaker, *, now: float) -> Speaker:
    """Take back the latest enrollment, or the adaptations since it; metadata and consent stay.

    Undoing the first enrollment leaves a PENDING speaker without a voice. Raises
    `FailedPrecondition` if there is nothing to undo.
    """
    if not speaker.history:
        raise FailedPrecondition(
            "there is no enrollment that can be taken back", reason=ErrorReason.NOTHING_TO_UNDO
        )
    *earlier, version = speaker.history
    return replace(
        speaker,
        state=version.state,
        voiceprints=version.voiceprints,
        enrolled_at=version.enrolled_at,
        awaits_confirmation=version.awaits_confirmation,
        history=tuple(earlier),
        request_ids=(),  # one of them may be what is taken back, and may be asked for again
        updated_at=now,
    )


def confirm_enrollment(speaker: Speaker, *, now: float) -> Speaker:
    """Release a voice for use; raises `FailedPrecondition` unless the speaker is UNCONFIRMED."""
    if speaker.state is not SpeakerState.UNCONFIRMED:
        raise FailedPrecondition(
            "only an enrollment that waits for it can be confirmed, and this one is "
            f"{speaker.state}",
            reason=ErrorReason.NOTHING_TO_CONFIRM,
        )
    return replace(speaker, state=SpeakerState.ENROLLED, awaits_confirmation=False, updated_at=now)


def opt_out(speaker: Speaker, *, now: float) -> Speaker:
    """Erase voice and consent, and remember when; a speaker who has opted out stays as it is."""
    if speaker.state is SpeakerState.OPTED_OUT:
        return speaker
    return replace(
        _erase_voice(speaker, SpeakerState.OPTED_OUT, now),
        consent=None,
        consent_withdrawn_at=None,
        opted_out_at=now,
    )


def set_consent(speaker: Speaker, consent: Consent | None, *, now: float) -> Speaker:
    """Record the consent or, with None, that it was withdrawn."""
    withdrawn_at = now if consent is None else None
    return replace(speaker, consent=consent, consent_withdrawn_at=withdrawn_at, updated_at=now)


def opt_in(speaker: Speaker, *, now: float) -> Speaker:
    """Make the speaker PENDING again; raises `FailedPrecondition` unless it opted out, or is."""
    if speaker.state is SpeakerState.PENDING:
        return speaker
    if speaker.state is not SpeakerState.OPTED_OUT:
        raise FailedPrecondition(
            f"only one who opted out can opt in again, not one {speaker.state}",
            reason=ErrorReason.SPEAKER_NOT_OPTED_OUT,
        )
    return replace(speaker, state=SpeakerState.PENDING, opted_out_at=None, updated_at=now)


def expire(speaker: Speaker, *, now: float) -> Speaker:
    """Erase the voice of a speaker who is EXPIRED."""
    return _erase_voice(speaker, SpeakerState.EXPIRED, now)


async def change_speaker(
    store: Store,
    tenant: str,
    speaker_id: str,
    step: Callable[[Speaker], Speaker],
    *,
    etag: str = "",
    new: Speaker | None = None,
) -> Speaker:
    """Apply `step`, which may be called several times, and return the speaker once it is durable.

    A missing speaker starts as `new`, or from its opt-out, which outlives it. Raises `NotFound` if
    it is missing and there is no `new`, and `Aborted` if `etag` is given and is not the stored one.
    """

    def apply(current: Speaker | None) -> Speaker:
        start = current or new
        if start is None:
            raise no_such_speaker()
        return step(start)

    if not etag:
        return await update(store, tenant, speaker_id, apply, create=new is not None)
    current = await store.get(tenant, speaker_id)
    return await store.put(apply(current), expected_etag=etag)


def no_such_speaker() -> NotFound:
    return NotFound(
        "there is no such speaker; enroll it first, or list the speakers there are",
        reason=ErrorReason.SPEAKER_NOT_FOUND,
    )


def last_used_at(speaker: Speaker) -> float:
    """When a speaker who has a voice was last enrolled, or a voiceprint was last made or used."""
    times = [speaker.enrolled_at]
    for voiceprint in speaker.voiceprints.values():
        times += (voiceprint.created_at, voiceprint.used_at)
    return max(at for at in times if at is not None)


def _make_version(speaker: Speaker, *, adapted: bool) -> Version:
    voiceprints = {
        model_id: replace(voiceprint, used_at=None)
        for model_id, voiceprint in speaker.voiceprints.items()
    }
    return Version(
        speaker.state, voiceprints, speaker.enrolled_at, speaker.awaits_confirmation, adapted
    )


def _erase_voice(speaker: Speaker, state: SpeakerState, now: float) -> Speaker:
    return replace(
        speaker,
        state=state,
        voiceprints={},
        history=(),
        enrolled_at=None,
        awaits_confirmation=False,
        adapted_from=(),
        request_ids=(),
        enrolled_by=(),
        updated_at=now,
    )
