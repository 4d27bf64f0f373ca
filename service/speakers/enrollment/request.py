"""What an enrollment asks for, and what came of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.audio.quality import Quality
from service.decisions.decision import Reason, explain
from service.settings import Duplicates
from service.speakers.enrollment.progress import Progress
from service.store import Consent, Speaker, SpeakerState


@dataclass(frozen=True, slots=True)
class EnrollmentRequest:
    """Whose voice to enroll, and how.

    `replacing` forgets what was enrolled before; `etag` makes the write conditional; `confirm` asks
    for an operator's confirmation before first use; `credential` is whose request it is. A
    recording that the voice already holds adds nothing, nor does a `request_id` that it was
    enrolled by, so that a request whose answer was lost can be sent again.
    """

    tenant: str
    speaker_id: str
    replacing: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    consent: Consent | None = None
    etag: str = ""
    confirm: bool = False
    duplicates: Duplicates | None = None
    credential: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Enrollment:
    """What came of an utterance: `speaker` as stored, or None and the reasons why it was not.

    `duplicates` are the ids under which the voice is already enrolled; `expires_at` is when the
    voice expires unless it is used.
    """

    progress: Progress
    quality: Quality
    explanation: str
    speaker: Speaker | None = None
    reasons: tuple[Reason, ...] = ()
    duplicates: tuple[str, ...] = ()
    expires_at: float = math.inf


def report(
    speaker: Speaker,
    progress: Progress,
    quality: Quality,
    duplicates: tuple[str, ...],
    *,
    expires_at: float,
) -> Enrollment:
    """The outcome for an utterance that the voice of `speaker` holds now."""
    clauses = ["enrolled"]
    if speaker.state is SpeakerState.UNCONFIRMED:
        clauses = ["enrolled, and waiting for an operator's confirmation"]
    if progress.needed_s:
        clauses = [f"{progress.needed_s:.1f} s more of net speech are needed"]
    if duplicates:
        clauses.append(explain((Reason.ALREADY_ENROLLED,), 0.0))
    return Enrollment(
        progress,
        quality,
        "; ".join(clauses),
        speaker,
        reasons=(Reason.ALREADY_ENROLLED,) if duplicates else (),
        duplicates=duplicates,
        expires_at=expires_at,
    )


def refuse(
    progress: Progress, quality: Quality, reasons: tuple[Reason, ...], why: str
) -> Enrollment:
    """The outcome for an utterance that was not enrolled."""
    return Enrollment(progress, quality, f"nothing was enrolled: {why}", reasons=reasons)
