"""The life of a voice: pure steps from one speaker record to the next, and what time does.

    (none) ──enrol──> PENDING ──enough──┬──────────────────────> ENROLLED ──unused──> EXPIRED
                         ^              └─> UNCONFIRMED ─confirm────^  │                  │
                         │                                            │                  │
                         └──opt in── OPTED_OUT <──opt out── (any) <───┴──────────────────┘

An undo leads back to what the latest enrolment changed. EXPIRED follows from the clock: it is
written only when the voice is erased. WITHOUT_CONSENT follows from the consent, and is never
written: any state with a voice, until a consent is recorded.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from service.errors import FailedPrecondition, NotFound
from service.store import Store, update
from service.store.records import Consent, Speaker, SpeakerState, Version

UNDO_LEVELS = 3
"""How many enrolments can be taken back."""


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many seconds an unused voice is kept, and the clock that says so; whether one without
    a consent is used.

    The three years of the Illinois Biometric Information Privacy Act, 740 ILCS 14/15(a), run
    from the last interaction: an enrolment or a verification.
    """

    expire_after_s: float = math.inf
    clock: Callable[[], float] = time.time
    consent_required: bool = False

    def state(self, speaker: Speaker) -> SpeakerState:
        """The state as of now."""
        if self.clock() >= self.expires_at(speaker):
            return SpeakerState.EXPIRED
        if speaker.voiceprints and self.lacks_consent(speaker):
            return SpeakerState.WITHOUT_CONSENT
        return speaker.state

    def lacks_consent(self, speaker: Speaker) -> bool:
        """Whether the consent was withdrawn, or was never given and is required."""
        withdrawn = speaker.consent_withdrawn_at is not None
        return speaker.consent is None and (withdrawn or self.consent_required)

    def expires_at(self, speaker: Speaker) -> float:
        """When the voice expires unless it is used; infinity for one who has none."""
        if not speaker.voiceprints:
            return math.inf
        return last_used_at(speaker) + self.expire_after_s


FOR_EVER = Retention()


def enrolled(speaker: Speaker, after: Speaker, *, now: float, adapted: bool = False) -> Speaker:
    """`after` an enrolment or adaptation at `now`, with the voice of `speaker` to undo it to.

    Adaptations in a row are undone as one: each keeps what the first of them changed.
    """
    history = speaker.history
    if not (adapted and history and history[-1].adapted):
        history = (*history, _version(speaker, adapted=adapted))[-UNDO_LEVELS:]
    return replace(after, history=history, enrolled_at=now, updated_at=now)


def undone(speaker: Speaker, *, now: float) -> Speaker:
    """Without the latest enrolment or adaptations; after the first, a PENDING speaker without a
    voice. Metadata and consent stay. Raises `FailedPrecondition` with nothing to undo."""
    if not speaker.history:
        raise FailedPrecondition("there is no enrolment that can be taken back")
    *earlier, version = speaker.history
    return replace(
        speaker,
        state=version.state,
        voiceprints=version.voiceprints,
        enrolled_at=version.enrolled_at,
        awaits_confirmation=version.awaits_confirmation,
        history=tuple(earlier),
        updated_at=now,
    )


def confirmed(speaker: Speaker, *, now: float) -> Speaker:
    """Released for use; raises `FailedPrecondition` unless the speaker is UNCONFIRMED."""
    if speaker.state is not SpeakerState.UNCONFIRMED:
        raise FailedPrecondition(
            f"only an enrolment that waits for it can be confirmed, and this one is {speaker.state}"
        )
    return replace(speaker, state=SpeakerState.ENROLLED, awaits_confirmation=False, updated_at=now)


def opted_out(speaker: Speaker, *, now: float) -> Speaker:
    """Without voice or consent; that and when the speaker opted out is remembered."""
    if speaker.state is SpeakerState.OPTED_OUT:
        return speaker
    return replace(
        _erased(speaker, SpeakerState.OPTED_OUT, now),
        consent=None,
        consent_withdrawn_at=None,
        opted_out_at=now,
    )


def consented(speaker: Speaker, consent: Consent | None, *, now: float) -> Speaker:
    """With that consent or, with None, after it was withdrawn."""
    withdrawn_at = now if consent is None else None
    return replace(speaker, consent=consent, consent_withdrawn_at=withdrawn_at, updated_at=now)


def opted_in(speaker: Speaker, *, now: float) -> Speaker:
    """PENDING again; raises `FailedPrecondition` for one who has enrolled since."""
    if speaker.state is SpeakerState.PENDING:
        return speaker
    if speaker.state is not SpeakerState.OPTED_OUT:
        raise FailedPrecondition(
            f"only one who opted out can opt in again, not one {speaker.state}"
        )
    return replace(speaker, state=SpeakerState.PENDING, opted_out_at=None, updated_at=now)


def expired(speaker: Speaker, *, now: float) -> Speaker:
    """EXPIRED, without a voice."""
    return _erased(speaker, SpeakerState.EXPIRED, now)


async def change(
    store: Store,
    tenant: str,
    speaker_id: str,
    step: Callable[[Speaker], Speaker],
    *,
    etag: str = "",
    new: Speaker | None = None,
) -> Speaker:
    """The speaker after `step`, durable; `step` may be called several times.

    Starts from `new` where there is no such speaker, or from its opt-out, which outlives it, else
    raises `NotFound`; raises `Aborted` when
    `etag` is given and is not the stored one.
    """

    def stepped(found: Speaker | None) -> Speaker:
        start = found or new
        if start is None:
            raise no_such_speaker()
        return step(start)

    if not etag:
        return await update(store, tenant, speaker_id, stepped, create=new is not None)
    found = await store.get(tenant, speaker_id)
    return await store.put(stepped(found), expected_etag=etag)


def no_such_speaker() -> NotFound:
    return NotFound("there is no such speaker; enrol it first, or list the speakers there are")


def last_used_at(speaker: Speaker) -> float:
    """The latest of enrolment and of every voiceprint's making and use; of one with a voice."""
    held = speaker.voiceprints.values()
    times = [speaker.enrolled_at, *(v.created_at for v in held), *(v.used_at for v in held)]
    return max(at for at in times if at is not None)


def _version(speaker: Speaker, *, adapted: bool) -> Version:
    voiceprints = {
        model_id: replace(held, used_at=None) for model_id, held in speaker.voiceprints.items()
    }
    return Version(
        speaker.state, voiceprints, speaker.enrolled_at, speaker.awaits_confirmation, adapted
    )


def _erased(speaker: Speaker, state: SpeakerState, now: float) -> Speaker:
    return replace(
        speaker,
        state=state,
        voiceprints={},
        history=(),
        enrolled_at=None,
        awaits_confirmation=False,
        adapted_from=(),
        enrolled_by=(),
        updated_at=now,
    )
