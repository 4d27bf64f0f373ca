"""What is sent to a server and what it answers, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from os import PathLike
from typing import BinaryIO, Literal

from sayso.errors import SaysoError
from sayso.v1 import audio_pb2

ENCODINGS = tuple(
    name.removeprefix("AUDIO_ENCODING_")
    for name, number in audio_pb2.AudioEncoding.items()
    if number not in {audio_pb2.AUDIO_ENCODING_UNSPECIFIED, audio_pb2.AUDIO_ENCODING_FILE}
)
"""Of audio without a header, by the names of the API: LINEAR16, MULAW and so on."""

Recording = bytes | str | PathLike[str] | BinaryIO
"""The bytes of a recording, the path of its file, or an open file."""

Outcome = Literal["ACCEPTED", "REJECTED", "INCONCLUSIVE", "NOT_ENROLLED", "OPTED_OUT", "EXPIRED"]
ThresholdSource = Literal["MODEL", "SERVER", "REQUEST", "SERVER_MINIMUM", "POLICY"]
Band = Literal["WEAK", "MODERATE", "STRONG"]
Duplicates = Literal["ALLOW", "FLAG", "REFUSE"]
EventType = Literal[
    "decision.reached",
    "decision.changed",
    "watchlist.matched",
    "enrollment.completed",
    "speaker.locked",
    "speaker.expired",
    "call.ended",
]
ClaimStatus = Literal["COMPARED", "NOT_ENROLLED", "OPTED_OUT", "EXPIRED", "LOCKED"]

Claimed = str | Sequence[str]
"""Who is claimed to speak: one speaker, or several of whom one does, 8 at most."""


@dataclass(frozen=True, slots=True)
class RawAudio:
    """How to read audio without a header: `encoding` is one of `ENCODINGS`, `sample_rate` in hertz.

    Raises ValueError for another encoding.
    """

    encoding: str
    sample_rate: int
    channels: int = 1

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(f"{self.encoding} is none of {', '.join(ENCODINGS)}")


@dataclass(frozen=True, slots=True)
class Decision:
    """A verification decision; scores are None when nothing was compared, or when the credential
    lacks the role `analyze`.

    `llr` is a natural-log likelihood ratio, `threshold_llr` what it had to reach, by the rule of
    `threshold_source`, in words `threshold_description`. `band` says in
    words how well the voice matches: WEAK is below the server's own threshold; None when nothing
    was compared. `audio_s` seconds were heard, a `clipping_ratio` of their speech samples at full
    scale and the highest at `peak_dbfs`; `snr_db` is None if it could not be estimated. If
    watchlists or a group were asked for, `watchlist_matches` are who of them the voice matches, and
    `identification` is who of the group it is. `matched_speaker_id` is who of the claimed speakers
    it is, empty unless accepted, and `claimed_speakers` are all of them if several were claimed.
    """

    outcome: Outcome
    explanation: str
    reasons: tuple[str, ...]
    cosine: float | None
    llr: float | None
    threshold_llr: float | None
    threshold_source: "ThresholdSource | None"
    threshold_description: str
    net_speech_s: float
    snr_db: float | None
    speech_needed_s: float
    model_id: str
    watchlist_matches: tuple["Match", ...] = ()
    identification: "Identification | None" = None
    band: Band | None = None
    audio_s: float = 0.0
    clipping_ratio: float = 0.0
    peak_dbfs: float = 0.0
    decision_id: str = ""
    decided_at: datetime | None = None
    audio_offset_s: float = 0.0
    speaker_id: str = ""
    matched_speaker_id: str = ""
    claimed_speakers: tuple["ClaimedSpeaker", ...] = ()

    @property
    def accepted(self) -> bool:
        return self.outcome == "ACCEPTED"


@dataclass(frozen=True, slots=True)
class ClaimedSpeaker:
    """One of several claimed speakers; anyone who was not COMPARED was left out. `llr` is of this
    speaker against another. Scores are None as in `Decision`."""

    speaker_id: str
    status: ClaimStatus
    cosine: float | None = None
    llr: float | None = None


@dataclass(frozen=True, slots=True)
class Costs:
    """From which the Bayes threshold follows: how likely a caller is who they claim to be, above 0
    and below 1, and what the two errors cost, in one unit."""

    target_prior: float
    miss_cost: float
    false_accept_cost: float


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """Asks for a decision as early as these error rates allow; None means the server's default."""

    false_match_rate: float | None = None
    false_non_match_rate: float | None = None
    max_net_speech_s: float | None = None


@dataclass(frozen=True, slots=True)
class Speaker:
    """An enrolled speaker, without vectors; `state` as in the API, e.g. ENROLLED.

    `consent` is the caller's own reference to it; `undo_levels` enrollments can be taken back.
    `failed_verifications` and `locked_until` are known from `get` alone.
    """

    speaker_id: str
    state: str
    net_speech_s: float
    speech_needed_s: float
    model_ids: tuple[str, ...]
    metadata: Mapping[str, str]
    etag: str
    consent: str | None = None
    consented_at: datetime | None = None
    opted_out_at: datetime | None = None
    expires_at: datetime | None = None
    undo_levels: int = 0
    locked_until: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    failed_verifications: "FailedVerifications | None" = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class FailedVerifications:
    """`consecutive` since the last acceptance, `total` since an operator last unlocked the speaker.
    `disabled`: verification is refused until an operator does."""

    consecutive: int
    total: int
    locked_until: datetime | None
    disabled: bool
    last_failed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Enrollment:
    """The result of an enrollment; `stored` is False when the speech was not added, and why.

    `duplicates` are other speakers who have this voice, `watchlist_matches` those of the asked
    watchlists. `done` is False while audio is still taken. The last four describe this recording,
    as in a `Decision`.
    """

    stored: bool
    explanation: str
    reasons: tuple[str, ...]
    net_speech_s: float
    speech_needed_s: float
    speaker: Speaker | None
    duplicates: tuple[str, ...] = ()
    watchlist_matches: tuple["Match", ...] = ()
    done: bool = True
    audio_s: float = 0.0
    snr_db: float | None = None
    clipping_ratio: float = 0.0
    peak_dbfs: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One recording of a batch: the arguments of `enroll`."""

    speaker_id: str
    audio: Recording = field(repr=False)
    raw: RawAudio | None = None
    channel: int | None = None
    replace: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    consent: str | None = None
    require_confirmation: bool = False
    duplicates: Duplicates | None = None
    etag: str = ""
    watchlists: tuple[str, ...] = ()
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of the item at `index`: its enrollment, or the error that it failed with."""

    index: int
    speaker_id: str
    enrollment: Enrollment | None = None
    error: SaysoError | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """That a speaker was erased: `audit_digest` is of the entry in the server's audit trail, and
    `subject` stands for the speaker there. Both are empty where the server keeps none."""

    at: datetime
    subject: str
    audit_digest: str


@dataclass(frozen=True, slots=True)
class Migration:
    """How many speakers are compared in the space of `model_id`, or wait in that of
    `previous_model_id`, of whom some have `begun` to move, or have to enroll again."""

    model_id: str
    previous_model_id: str
    moved: int
    waiting: int
    begun: int
    stranded: int

    @property
    def share(self) -> float:
        """Of the speakers, those who have moved: 0 to 1, 1 where there is nobody to move."""
        everybody = self.moved + self.waiting + self.stranded
        return self.moved / everybody if everybody else 1.0


@dataclass(frozen=True, slots=True)
class Embedding:
    """An L2-normalised speaker embedding; comparable only within one `model_id`."""

    model_id: str
    values: tuple[float, ...] = field(repr=False)
    net_speech_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CalibratedRange:
    """The false-match rates that were measured; a threshold below the lowest is an upper bound."""

    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that a server has loaded; `sample_rate` in hertz, `calibrated_range` None if nothing
    can be decided with it."""

    model_id: str
    dimension: int
    sample_rate: int
    window_s: float
    min_net_speech_s: float
    calibrated_range: CalibratedRange | None


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server is and can do. The first model makes new voiceprints; a second is the previous
    one, whose voiceprints are still accepted. `policies` are the names that `verify` takes."""

    version: str
    models: tuple[ModelInfo, ...]
    max_recording_s: float
    max_call_s: float
    enrollment_net_speech_s: float
    features: tuple[str, ...]
    policies: tuple[str, ...] = ()
    max_message_bytes: int = 0
    max_chunk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """A named set of speakers, for identification and for screening."""

    name: str
    description: str
    members: int
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AnnouncedCall:
    """A call whose audio is still to come, who is claimed to be calling, and the name of the policy
    to decide by (empty: the server's default)."""

    call_id: str
    speaker_ids: tuple[str, ...]
    policy: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to `speaker_id`, or in the call of `request_id`; events about calls have the
    decision as it stood. `locked_until` is None if only an operator can unlock the speaker.

    `resume_token` leads to the events after this one. `lost` events before it are gone: they came
    too fast, or the client came too late.
    """

    event_id: str
    type: EventType
    created_at: datetime
    speaker_id: str
    request_id: str
    decision: Decision | None
    watchlist_matches: tuple["Match", ...]
    locked_until: datetime | None
    resume_token: str
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """A member of a group that a voice was compared with, in the space of `model_id`; `llr` is a
    natural-log ratio. Scores are None when the credential lacks the role `analyze`."""

    group: str
    speaker_id: str
    cosine: float | None
    llr: float | None
    model_id: str = ""


@dataclass(frozen=True, slots=True)
class Identification:
    """Who of a group is speaking: the first of `candidates` if the decision is ACCEPTED. Without
    the role `analyze` there are no other candidates."""

    decision: Decision
    candidates: tuple[Match, ...]

    @property
    def speaker_id(self) -> str | None:
        return self.candidates[0].speaker_id if self.decision.accepted else None
