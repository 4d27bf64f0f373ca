"""The client that an integrator imports; needs only grpcio and the `sayso.v1` messages.

with Client("127.0.0.1:50051") as sayso:
    sayso.enroll("alice", Path("alice.wav"))
    print(sayso.verify("alice", Path("call.wav")).outcome)
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Self

import grpc
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
)

from service.errors import (
    Aborted,
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
_ERRORS = {kind.code: kind for kind in (NotFound, FailedPrecondition, Aborted, Unavailable)}

Outcome = Literal["ACCEPTED", "REJECTED", "INCONCLUSIVE", "NOT_ENROLLED", "OPTED_OUT", "EXPIRED"]


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
class Speaker:
    """An enrolled speaker, without vectors; `state` as in the API, e.g. ENROLLED."""

    speaker_id: str
    state: str
    net_speech_s: float
    speech_needed_s: float
    model_ids: tuple[str, ...]
    metadata: Mapping[str, str]
    etag: str


@dataclass(frozen=True, slots=True)
class Enrollment:
    """The result of an enrolment; `stored` is False when the speech was not added, and why."""

    stored: bool
    explanation: str
    reasons: tuple[str, ...]
    net_speech_s: float
    speech_needed_s: float
    speaker: Speaker | None


@dataclass(frozen=True, slots=True)
class Embedding:
    """An L2-normalised speaker embedding; comparable only within one `model_id`."""

    model_id: str
    values: tuple[float, ...] = field(repr=False)
    net_speech_s: float = 0.0


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
    ) -> Enrollment:
        """Adds a recording to a speaker's voice; stored durably when this returns."""
        config = verification_pb2.EnrollConfig(
            speaker_id=speaker_id,
            audio=_audio_config(raw, channel),
            replace=replace,
            metadata=metadata or {},
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
        policy = decision_pb2.DecisionPolicy()
        if target_false_match_rate is not None:
            policy.target_false_match_rate = target_false_match_rate
        request = verification_pb2.VerifyRequest(
            speaker_id=speaker_id,
            config=_audio_config(raw, channel),
            audio=_audio_bytes(audio),
            policy=policy,
        )
        return _decision(self._call(self._voices.Verify, request).decision)

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

    def delete(self, speaker_id: str) -> None:
        """Erases a speaker; raises `NotFound`."""
        request = speaker_pb2.DeleteSpeakerRequest(speaker_id=speaker_id)
        self._call(self._speakers.DeleteSpeaker, request)

    def ready(self) -> bool:
        """Whether the server is there, its model loaded and its store reachable."""
        try:
            reply = self._health.Check(health_pb2.HealthCheckRequest(), timeout=self._timeout_s)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

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


def _enroll_requests(
    config: verification_pb2.EnrollConfig, audio: bytes
) -> Iterator[verification_pb2.EnrollRequest]:
    yield verification_pb2.EnrollRequest(config=config)
    for start in range(0, len(audio), MAX_CHUNK_BYTES):
        yield verification_pb2.EnrollRequest(audio=audio[start : start + MAX_CHUNK_BYTES])


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
    )


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
