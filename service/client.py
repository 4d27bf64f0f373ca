"""The client that an integrator imports; needs only grpcio and the `sayso.v1` messages.

with Client("127.0.0.1:50051") as sayso:
    sayso.enroll("alice", Path("alice.wav"))
    print(sayso.verify("alice", Path("call.wav")).outcome)
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Self

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from sayso.v1 import (
    audio_pb2,
    decision_pb2,
    speaker_pb2,
    speaker_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
    watchlist_pb2,
    watchlist_pb2_grpc,
)

from service.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Overloaded,
    SaysoError,
    Unavailable,
)

MAX_CHUNK_BYTES = 15 * 1024
"""The most audio that one stream message may carry."""

_MAX_MESSAGE_BYTES = 64 * 2**20
_MAX_SPEAKERS_AT_ONCE = 1000
_ERRORS = {
    kind.code: kind for kind in (NotFound, AlreadyExists, FailedPrecondition, Aborted, Unavailable)
}

Outcome = Literal["ACCEPTED", "REJECTED", "INCONCLUSIVE", "NOT_ENROLLED", "OPTED_OUT", "EXPIRED"]
Duplicates = Literal["ALLOW", "FLAG", "REFUSE"]


@dataclass(frozen=True, slots=True)
class RawAudio:
    """How to read audio without a header: `encoding` is LINEAR16, MULAW or ALAW."""

    encoding: Literal["LINEAR16", "MULAW", "ALAW"]
    sample_rate: int
    channels: int = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """A verification decision; scores are None when nothing was compared.

    `llr` is a natural-log likelihood ratio, `threshold_llr` what it had to reach.
    """

    outcome: Outcome
    explanation: str
    reasons: tuple[str, ...]
    cosine: float | None
    llr: float | None
    threshold_llr: float | None
    threshold_source: str
    net_speech_s: float
    snr_db: float | None
    speech_needed_s: float
    model_id: str

    @property
    def accepted(self) -> bool:
        return self.outcome == "ACCEPTED"


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """Asks for a decision as early as these error rates allow; 0 means the server's default."""

    false_match_rate: float = 0.0
    false_non_match_rate: float = 0.0
    max_net_speech_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """An enrolled speaker, without vectors; `state` as in the API, e.g. ENROLLED.

    `consent` is the caller's own reference to it; `undo_levels` enrolments can be taken back.
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


@dataclass(frozen=True, slots=True)
class Enrollment:
    """The result of an enrolment; `stored` is False when the speech was not added, and why.

    `duplicates` are other speakers who have this voice.
    """

    stored: bool
    explanation: str
    reasons: tuple[str, ...]
    net_speech_s: float
    speech_needed_s: float
    speaker: Speaker | None
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Embedding:
    """An L2-normalised speaker embedding; comparable only within one `model_id`."""

    model_id: str
    values: tuple[float, ...] = field(repr=False)
    net_speech_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Group:
    """A named set of speakers, for identification and for screening."""

    name: str
    description: str
    members: int


@dataclass(frozen=True, slots=True)
class Match:
    """A member of a group that a voice was compared with; `llr` is a natural-log ratio."""

    group: str
    speaker_id: str
    cosine: float
    llr: float


@dataclass(frozen=True, slots=True)
class Identification:
    """Who of a group is speaking: the first of `candidates` if the decision is ACCEPTED."""

    decision: Decision
    candidates: tuple[Match, ...]

    @property
    def speaker_id(self) -> str | None:
        return self.candidates[0].speaker_id if self.decision.accepted else None


class Client:
    """A connection to a Sayso server.

    `audio` is the bytes of a WAV, FLAC or Ogg file or the path of one; for raw samples say so with
    `raw`; `channel` picks the caller's side of a two-channel recording. Failures are raised as the
    classes of `service.errors`; too little speech is a decision, not a failure.
    """

    def __init__(self, address: str = "127.0.0.1:50051", *, timeout_s: float = 30.0) -> None:
        options = [("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._voices = verification_pb2_grpc.VerificationServiceStub(self._channel)
        self._speakers = speaker_pb2_grpc.SpeakerServiceStub(self._channel)
        self._groups = watchlist_pb2_grpc.WatchlistServiceStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def enroll(
        self,
        speaker_id: str,
        audio: bytes | Path,
        *,
        raw: RawAudio | None = None,
        channel: int = 0,
        replace: bool = False,
        metadata: Mapping[str, str] | None = None,
        consent: str | None = None,
        require_confirmation: bool = False,
        duplicates: Duplicates | None = None,
        etag: str = "",
    ) -> Enrollment:
        """Adds a recording to a speaker's voice; stored durably when this returns.

        `consent` is your own reference to the speaker's consent, given now. `duplicates` says what
        to do with a voice that is already enrolled under another id.
        """
        config = verification_pb2.EnrollConfig(
            speaker_id=speaker_id,
            audio=_audio_config(raw, channel),
            replace=replace,
            metadata=metadata or {},
            consent=_consent(consent),
            require_confirmation=require_confirmation,
            duplicates=verification_pb2.DuplicatePolicy.Value(
                f"DUPLICATE_POLICY_{duplicates or 'UNSPECIFIED'}"
            ),
            etag=etag,
        )
        requests = _enroll_requests(config, _audio_bytes(audio))
        try:
            *_, last = self._voices.Enroll(requests, timeout=self._timeout_s)
        except grpc.RpcError as error:
            _raise(error)
        return Enrollment(
            stored=last.stored,
            explanation=last.explanation,
            reasons=_reasons(last.reasons),
            net_speech_s=last.progress.net_speech_s,
            speech_needed_s=last.progress.speech_needed_s,
            speaker=_speaker(last.speaker) if last.HasField("speaker") else None,
            duplicates=tuple(last.duplicate_speaker_ids),
        )

    def verify(
        self,
        speaker_id: str,
        audio: bytes | Path,
        *,
        raw: RawAudio | None = None,
        channel: int = 0,
        target_false_match_rate: float | None = None,
    ) -> Decision:
        """Decides whether a recording is the enrolled voice."""
        request = verification_pb2.VerifyRequest(
            speaker_id=speaker_id,
            config=_audio_config(raw, channel),
            audio=_audio_bytes(audio),
            policy=_policy(target_false_match_rate, None),
        )
        return _decision(self._call(self._voices.Verify, request).decision)

    def verify_stream(
        self,
        speaker_id: str,
        chunks: Iterable[bytes],
        *,
        raw: RawAudio | None = None,
        channel: int = 0,
        target_false_match_rate: float | None = None,
        sequential: SequentialTest | None = None,
        stop_at_decision: bool = False,
        continuous: bool = False,
    ) -> Iterator[Decision]:
        """Decides while the caller still talks: yields the decision as it stands, the last one
        when `chunks` end or, with `stop_at_decision`, when it is conclusive."""
        config = verification_pb2.StreamingVerifyConfig(
            speaker_id=speaker_id,
            audio=_audio_config(raw, channel),
            policy=_policy(target_false_match_rate, sequential),
            stop_at_decision=stop_at_decision,
            continuous=continuous,
        )
        try:
            for response in self._voices.StreamingVerify(_call_requests(config, chunks)):
                yield _decision(response.decision)
        except grpc.RpcError as error:
            _raise(error)

    def identify(
        self,
        group: str,
        audio: bytes | Path,
        *,
        raw: RawAudio | None = None,
        channel: int = 0,
        target_false_match_rate: float | None = None,
        max_candidates: int = 1,
    ) -> Identification:
        """Finds who of a group is speaking, or that it is none of them; raises `NotFound`.

        `target_false_match_rate` is of taking a stranger for any member.
        """
        request = verification_pb2.IdentifyRequest(
            group=group,
            config=_audio_config(raw, channel),
            audio=_audio_bytes(audio),
            policy=_policy(target_false_match_rate, None),
            max_candidates=max_candidates,
        )
        response = self._call(self._voices.Identify, request)
        return Identification(_decision(response.decision), tuple(map(_match, response.candidates)))

    def embed(
        self, audio: bytes | Path, *, raw: RawAudio | None = None, channel: int = 0
    ) -> Embedding | None:
        """The embedding of a recording; None when it has too little speech."""
        request = verification_pb2.EmbedRequest(
            config=_audio_config(raw, channel), audio=_audio_bytes(audio)
        )
        response = self._call(self._voices.Embed, request)
        if not response.HasField("embedding"):
            return None
        made = response.embedding
        return Embedding(made.model_id, tuple(made.values), made.net_speech_s)

    def compare(self, left: Embedding, right: Embedding) -> float:
        """Cosine of two embeddings of one model."""
        request = verification_pb2.CompareRequest(
            left=[_embedding_message(left)], right=[_embedding_message(right)]
        )
        return float(self._call(self._voices.Compare, request).comparisons[0].cosine)

    def get(self, speaker_id: str) -> Speaker:
        """Reads one speaker; raises `NotFound`."""
        request = speaker_pb2.GetSpeakerRequest(speaker_id=speaker_id)
        return _speaker(self._call(self._speakers.GetSpeaker, request).speaker)

    def list(self, *, page_size: int = 100) -> Iterator[Speaker]:
        """Every speaker in the order of their ids, read page by page."""
        request = speaker_pb2.ListSpeakersRequest(page_size=page_size)
        while True:
            response = self._call(self._speakers.ListSpeakers, request)
            yield from map(_speaker, response.speakers)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def update(
        self,
        speaker_id: str,
        *,
        metadata: Mapping[str, str] | None = None,
        consent: str | None = None,
        etag: str = "",
    ) -> Speaker:
        """Replaces the metadata, the consent, or both; None leaves one as it is.

        With an `etag`, as every other write, raises `Aborted` when the speaker has changed since.
        """
        given = {"metadata": metadata, "consent": consent}
        speaker = speaker_pb2.Speaker(metadata=metadata or {}, consent=_consent(consent))
        paths = [path for path, value in given.items() if value is not None]
        return self._update(speaker_id, speaker, *paths, etag=etag)

    def opt_out(self, speaker_id: str, *, etag: str = "") -> Speaker:
        """Erases the voice and refuses to enrol it again, also of one who never enrolled."""
        speaker = speaker_pb2.Speaker(state=speaker_pb2.SPEAKER_STATE_OPTED_OUT)
        return self._update(speaker_id, speaker, "state", etag=etag, allow_missing=True)

    def opt_in(self, speaker_id: str, *, etag: str = "") -> Speaker:
        """Lets one who opted out enrol again."""
        speaker = speaker_pb2.Speaker(state=speaker_pb2.SPEAKER_STATE_PENDING)
        return self._update(speaker_id, speaker, "state", etag=etag)

    def undo(self, speaker_id: str, *, etag: str = "") -> Speaker:
        """Takes back the latest enrolment; raises `FailedPrecondition` when there is none."""
        request = speaker_pb2.UndoEnrollmentRequest(speaker_id=speaker_id, etag=etag)
        return _speaker(self._call(self._speakers.UndoEnrollment, request).speaker)

    def confirm(self, speaker_id: str, *, etag: str = "") -> Speaker:
        """Releases an enrolment for first use; raises `FailedPrecondition` unless it waits."""
        request = speaker_pb2.ConfirmEnrollmentRequest(speaker_id=speaker_id, etag=etag)
        return _speaker(self._call(self._speakers.ConfirmEnrollment, request).speaker)

    def delete(self, speaker_id: str, *, etag: str = "") -> None:
        """Erases a speaker; raises `NotFound`."""
        request = speaker_pb2.DeleteSpeakerRequest(speaker_id=speaker_id, etag=etag)
        self._call(self._speakers.DeleteSpeaker, request)

    def create_group(self, name: str, description: str = "") -> Group:
        """Makes an empty group; raises `AlreadyExists`."""
        group = watchlist_pb2.Group(name=name, description=description)
        request = watchlist_pb2.CreateGroupRequest(group=group)
        return _group(self._call(self._groups.CreateGroup, request).group)

    def groups(self, *, page_size: int = 100) -> Iterator[Group]:
        """Every group in the order of their names, read page by page."""
        request = watchlist_pb2.ListGroupsRequest(page_size=page_size)
        while True:
            response = self._call(self._groups.ListGroups, request)
            yield from map(_group, response.groups)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def delete_group(self, name: str) -> None:
        """Removes a group, not its speakers; raises `NotFound`."""
        self._call(self._groups.DeleteGroup, watchlist_pb2.DeleteGroupRequest(name=name))

    def add_members(self, group: str, speaker_ids: Iterable[str]) -> None:
        """Adds speakers, a thousand at a time; raises `NotFound` at the first thousand with an
        unknown one, of which none is added."""
        for some in _thousands(speaker_ids):
            request = watchlist_pb2.AddMembersRequest(group=group, speaker_ids=some)
            self._call(self._groups.AddMembers, request)

    def remove_members(self, group: str, speaker_ids: Iterable[str]) -> None:
        """Takes speakers out; those who are not in it are passed over."""
        for some in _thousands(speaker_ids):
            request = watchlist_pb2.RemoveMembersRequest(group=group, speaker_ids=some)
            self._call(self._groups.RemoveMembers, request)

    def members(self, group: str, *, page_size: int = 100) -> Iterator[str]:
        """The ids of a group's speakers in their order, read page by page."""
        request = watchlist_pb2.ListMembersRequest(group=group, page_size=page_size)
        while True:
            response = self._call(self._groups.ListMembers, request)
            yield from response.speaker_ids
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def ready(self) -> bool:
        """Whether the server is there, its model loaded and its store reachable."""
        try:
            reply = self._health.Check(health_pb2.HealthCheckRequest(), timeout=self._timeout_s)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def _update(
        self,
        speaker_id: str,
        speaker: speaker_pb2.Speaker,
        *paths: str,
        etag: str,
        allow_missing: bool = False,
    ) -> Speaker:
        speaker.speaker_id, speaker.etag = speaker_id, etag
        request = speaker_pb2.UpdateSpeakerRequest(
            speaker=speaker, update_mask=FieldMask(paths=paths), allow_missing=allow_missing
        )
        return _speaker(self._call(self._speakers.UpdateSpeaker, request).speaker)

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            _raise(error)


def _audio_bytes(audio: bytes | Path) -> bytes:
    return audio.read_bytes() if isinstance(audio, Path) else audio


def _audio_config(raw: RawAudio | None, channel: int) -> audio_pb2.AudioConfig:
    if raw is None:
        return audio_pb2.AudioConfig(channel=channel)
    return audio_pb2.AudioConfig(
        encoding=audio_pb2.AudioEncoding.Value(f"AUDIO_ENCODING_{raw.encoding}"),
        sample_rate=raw.sample_rate,
        channels=raw.channels,
        channel=channel,
    )


def _policy(
    target_false_match_rate: float | None, sequential: SequentialTest | None
) -> decision_pb2.DecisionPolicy:
    policy = decision_pb2.DecisionPolicy()
    if target_false_match_rate is not None:
        policy.target_false_match_rate = target_false_match_rate
    if sequential is not None:
        policy.sequential.CopyFrom(
            decision_pb2.SequentialTest(
                false_match_rate=sequential.false_match_rate,
                false_non_match_rate=sequential.false_non_match_rate,
                max_net_speech_s=sequential.max_net_speech_s,
            )
        )
    return policy


def _enroll_requests(
    config: verification_pb2.EnrollConfig, audio: bytes
) -> Iterator[verification_pb2.EnrollRequest]:
    yield verification_pb2.EnrollRequest(config=config)
    for piece in _pieces(audio):
        yield verification_pb2.EnrollRequest(audio=piece)


def _call_requests(
    config: verification_pb2.StreamingVerifyConfig, chunks: Iterable[bytes]
) -> Iterator[verification_pb2.StreamingVerifyRequest]:
    yield verification_pb2.StreamingVerifyRequest(config=config)
    for chunk in chunks:
        for piece in _pieces(chunk):
            yield verification_pb2.StreamingVerifyRequest(audio=piece)


def _pieces(audio: bytes) -> Iterator[bytes]:
    return (audio[at : at + MAX_CHUNK_BYTES] for at in range(0, len(audio), MAX_CHUNK_BYTES))


def _embedding_message(embedding: Embedding) -> verification_pb2.Embedding:
    return verification_pb2.Embedding(
        model_id=embedding.model_id,
        values=embedding.values,
        net_speech_s=embedding.net_speech_s,
    )


def _reasons(reasons: Iterable[Any]) -> tuple[str, ...]:
    return tuple(decision_pb2.Reason.Name(reason).removeprefix("REASON_") for reason in reasons)


def _decision(made: decision_pb2.Decision) -> Decision:
    compared = made.HasField("threshold")
    outcome: Any = decision_pb2.Outcome.Name(made.outcome).removeprefix("OUTCOME_")
    return Decision(
        outcome=outcome,
        explanation=made.explanation,
        reasons=_reasons(made.reasons),
        cosine=made.cosine if compared else None,
        llr=made.llr if compared else None,
        threshold_llr=made.threshold.llr if compared else None,
        threshold_source=made.threshold.source,
        net_speech_s=made.quality.net_speech_s,
        snr_db=made.quality.snr_db if made.quality.HasField("snr_db") else None,
        speech_needed_s=made.speech_needed_s,
        model_id=made.model_id,
    )


def _speaker(speaker: speaker_pb2.Speaker) -> Speaker:
    return Speaker(
        speaker_id=speaker.speaker_id,
        state=speaker_pb2.SpeakerState.Name(speaker.state).removeprefix("SPEAKER_STATE_"),
        net_speech_s=speaker.progress.net_speech_s,
        speech_needed_s=speaker.progress.speech_needed_s,
        model_ids=tuple(voiceprint.model_id for voiceprint in speaker.voiceprints),
        metadata=dict(speaker.metadata),
        etag=speaker.etag,
        consent=speaker.consent.reference if speaker.HasField("consent") else None,
        consented_at=_time(speaker.consent, "time"),
        opted_out_at=_time(speaker, "opt_out_time"),
        expires_at=_time(speaker, "expire_time"),
        undo_levels=speaker.undo_levels,
    )


def _consent(reference: str | None) -> speaker_pb2.Consent | None:
    return None if reference is None else speaker_pb2.Consent(reference=reference)


def _time(message: Any, field: str) -> datetime | None:
    return getattr(message, field).ToDatetime(tzinfo=UTC) if message.HasField(field) else None


def _thousands(values: Iterable[str]) -> Iterator[tuple[str, ...]]:
    remaining = iter(values)
    while some := tuple(itertools.islice(remaining, _MAX_SPEAKERS_AT_ONCE)):
        yield some


def _group(group: watchlist_pb2.Group) -> Group:
    return Group(group.name, group.description, group.members)


def _match(match: watchlist_pb2.GroupMatch) -> Match:
    return Match(match.group, match.speaker_id, match.cosine, match.llr)


def _raise(error: grpc.RpcError) -> NoReturn:
    """Raises the `service.errors` class that the server's status stands for."""
    code, text = error.code(), error.details() or ""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status else ():
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            request = error_details_pb2.BadRequest()
            detail.Unpack(request)
            violation = request.field_violations[0]
            raise InvalidArgument(violation.description, field=violation.field) from error
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            raise Overloaded(text, retry_after_s=retry.retry_delay.ToTimedelta().total_seconds())
    raise _ERRORS.get(code, SaysoError)(f"{code.name}: {text}") from error
