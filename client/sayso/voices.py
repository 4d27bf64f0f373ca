"""Recordings and calls (`VerificationService`): enroll, verify, identify, embed, compare.

A recording that is too large for one message is streamed, by the calls that have a stream.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from sayso import messages
from sayso.calls import Call, Stream
from sayso.errors import FieldViolation, InvalidArgument
from sayso.recordings import MESSAGE_S, Collector, read_recording
from sayso.v1 import verification_pb2
from sayso.v1.verification_pb2_grpc import VerificationServiceStub
from sayso.values import (
    BatchItem,
    Claimed,
    Costs,
    Decision,
    Duplicates,
    Embedding,
    Enrollment,
    Identification,
    RawAudio,
    Recording,
    SequentialTest,
)

log = logging.getLogger(__name__)


def enroll(
    speaker_id: str,
    audio: Recording,
    *,
    raw: RawAudio | None = None,
    channel: int | None = None,
    replace: bool = False,
    metadata: Mapping[str, str] | None = None,
    consent: str | None = None,
    require_confirmation: bool = False,
    duplicates: Duplicates | None = None,
    etag: str = "",
    watchlists: Iterable[str] = (),
    stop_when_complete: bool = False,
    request_id: str = "",
) -> Call[Enrollment]:
    """Add a recording to a speaker's voice; stored durably when this returns.

    `consent` is your own reference to the speaker's consent, given now. `duplicates` says what to
    do with a voice that is already enrolled under another id. The voice is screened against
    `watchlists`. With `stop_when_complete` no more of `raw` audio is taken than is needed. A
    `request_id` of your own makes it safe to ask again after a lost answer.
    """
    item = BatchItem(
        speaker_id,
        audio,
        raw=raw,
        channel=channel,
        replace=replace,
        metadata=metadata or {},
        consent=consent,
        require_confirmation=require_confirmation,
        duplicates=duplicates,
        etag=etag,
        watchlists=tuple(watchlists),
        request_id=request_id,
    )
    return enroll_item(item, read_recording(audio), stop_when_complete=stop_when_complete)


def enroll_item(
    item: BatchItem, audio: bytes, *, stop_when_complete: bool = False
) -> Call[Enrollment]:
    """The enrollment of a recording: in one message if it fits and all of it is to be taken."""
    config = messages.enroll_config(item)
    config.stop_when_complete = stop_when_complete
    request = verification_pb2.EnrollRequest(config=config, audio=audio)
    if stop_when_complete or _too_large(request):
        return _streamed(_enroll_stream(config), audio)
    return Call(VerificationServiceStub, "Enroll", request, messages.enrollment)


def enroll_stream(
    speaker_id: str,
    *,
    raw: RawAudio | None = None,
    channel: int | None = None,
    replace: bool = False,
    metadata: Mapping[str, str] | None = None,
    consent: str | None = None,
    require_confirmation: bool = False,
    duplicates: Duplicates | None = None,
    etag: str = "",
    watchlists: Iterable[str] = (),
    stop_when_complete: bool = False,
    message_s: float = MESSAGE_S,
    request_id: str = "",
) -> Stream[Enrollment]:
    """Enrolls while the speaker still talks: yields progress and, stored durably, the result, when
    `chunks` end or, with `stop_when_complete`, as soon as there is enough speech. Leaving early
    cancels the stream. For `message_s` see `verify_stream`."""
    item = BatchItem(
        speaker_id,
        b"",
        raw=raw,
        channel=channel,
        replace=replace,
        metadata=metadata or {},
        consent=consent,
        require_confirmation=require_confirmation,
        duplicates=duplicates,
        etag=etag,
        watchlists=tuple(watchlists),
        request_id=request_id,
    )
    config = messages.enroll_config(item)
    config.stop_when_complete = stop_when_complete
    return _enroll_stream(config, Collector(raw, message_s))


def verify(
    speaker_id: Claimed,
    audio: Recording,
    *,
    raw: RawAudio | None = None,
    channel: int | None = None,
    target_false_match_rate: float | None = None,
    costs: Costs | None = None,
    min_net_speech_s: float | None = None,
    min_snr_db: float | None = None,
    watchlists: Iterable[str] = (),
    policy: str = "",
) -> Call[Decision]:
    """Decides whether a recording is the enrolled voice; screens it against `watchlists`. `policy`
    names one of the server's; the other rules are laid over it. With several speaker ids, e.g. the
    holders of an account, the claim is that one of them speaks."""
    claimed, alternatives = messages.split_claim(speaker_id)
    request = verification_pb2.VerifyRequest(
        speaker_id=claimed,
        audio_config=messages.audio_config(raw, channel),
        audio=read_recording(audio),
        policy=messages.policy(target_false_match_rate, costs, min_net_speech_s, min_snr_db),
        watchlists=watchlists,
        policy_name=policy,
        alternative_speaker_ids=alternatives,
    )
    if _too_large(request):
        config = verification_pb2.StreamingVerifyConfig(
            speaker_id=claimed,
            audio_config=request.audio_config,
            policy=request.policy,
            watchlists=request.watchlists,
            policy_name=policy,
            alternative_speaker_ids=alternatives,
        )
        return _streamed(_verify_stream(config), request.audio)
    return Call(VerificationServiceStub, "Verify", request, messages.verification)


def verify_stream(
    speaker_id: Claimed,
    *,
    raw: RawAudio | None = None,
    channel: int | None = None,
    target_false_match_rate: float | None = None,
    costs: Costs | None = None,
    min_net_speech_s: float | None = None,
    min_snr_db: float | None = None,
    sequential: SequentialTest | None = None,
    stop_at_decision: bool = False,
    continuous: bool = False,
    watchlists: Iterable[str] = (),
    identify_group: str = "",
    max_candidates: int = 1,
    message_s: float = MESSAGE_S,
    policy: str = "",
) -> Stream[Decision]:
    """Decides while the caller still talks: yields the decision as it stands, the last one when
    `chunks` end or, with `stop_at_decision`, when it is conclusive.

    Raw audio in smaller chunks is sent in messages of `message_s` seconds, which costs the server
    less; 0 sends every chunk as it comes.

    Leave the iterator whenever you like: the stream is then half-closed, so that the server
    concludes on what it has heard, rather than cancelled.

    With an empty `speaker_id` only `watchlists` and `identify_group` are searched: the decision is
    INCONCLUSIVE, and its `identification` is what counts. `policy` names one of the server's. With
    several speaker ids the claim is that one of them speaks.
    """
    claimed, alternatives = messages.split_claim(speaker_id)
    config = verification_pb2.StreamingVerifyConfig(
        speaker_id=claimed,
        audio_config=messages.audio_config(raw, channel),
        policy=messages.policy(
            target_false_match_rate, costs, min_net_speech_s, min_snr_db, sequential
        ),
        stop_at_decision=stop_at_decision,
        continuous=continuous,
        watchlists=watchlists,
        identify_group_name=identify_group,
        max_candidates=max_candidates,
        policy_name=policy,
        alternative_speaker_ids=alternatives,
    )
    return _verify_stream(config, Collector(raw, message_s))


def identify(
    group: str,
    audio: Recording,
    *,
    raw: RawAudio | None = None,
    channel: int | None = None,
    target_false_match_rate: float | None = None,
    costs: Costs | None = None,
    min_net_speech_s: float | None = None,
    min_snr_db: float | None = None,
    max_candidates: int = 1,
    policy: str = "",
) -> Call[Identification]:
    """Find who of a group is speaking, or that it is none of them; raises `NotFound`.

    `target_false_match_rate` is of taking a stranger for any member. `policy` names one of the
    server's.
    """
    request = verification_pb2.IdentifyRequest(
        group_name=group,
        audio_config=messages.audio_config(raw, channel),
        audio=read_recording(audio),
        policy=messages.policy(target_false_match_rate, costs, min_net_speech_s, min_snr_db),
        max_candidates=max_candidates,
        policy_name=policy,
    )
    if _too_large(request):
        config = verification_pb2.StreamingVerifyConfig(
            audio_config=request.audio_config,
            policy=request.policy,
            identify_group_name=group,
            max_candidates=max_candidates,
            policy_name=policy,
        )
        stream = _verify_stream(config)
        requests = stream.requests([request.audio])
        return Call(
            stream.service, stream.rpc, requests, messages.call_identification, streamed=True
        )
    return Call(VerificationServiceStub, "Identify", request, messages.identification)


def embed(
    audio: Recording, *, raw: RawAudio | None = None, channel: int | None = None
) -> Call[Embedding | None]:
    """The embedding of a recording of 4 MiB at most; None when it has too little speech. Needs the
    role `analyze`."""
    request = verification_pb2.EmbedRequest(
        audio_config=messages.audio_config(raw, channel), audio=read_recording(audio)
    )
    if _too_large(request):
        problem = (
            f"the recording has {len(request.audio)} bytes, and a request holds "
            f"{messages.MAX_MESSAGE_BYTES}; send less of it, or the same as FLAC or Ogg Opus"
        )
        violation = FieldViolation("audio", problem)
        raise InvalidArgument(f"audio: {problem}", violations=(violation,))
    return Call(VerificationServiceStub, "Embed", request, messages.embedding)


def compare(left: Embedding, right: Embedding) -> Call[float]:
    """Cosine of two embeddings of one model. Needs the role `analyze`."""
    request = verification_pb2.CompareRequest(
        left=[messages.embedding_message(left)], right=[messages.embedding_message(right)]
    )
    return Call(VerificationServiceStub, "Compare", request, messages.cosine)


def _enroll_stream(
    config: verification_pb2.EnrollConfig, collector: Collector | None = None
) -> Stream[Enrollment]:
    request = verification_pb2.StreamingEnrollRequest
    return Stream(
        VerificationServiceStub,
        "StreamingEnroll",
        request(config=config),
        lambda audio: request(audio=audio),
        messages.enrollment_progress,
        collector or Collector(None, 0.0),
    )


def _verify_stream(
    config: verification_pb2.StreamingVerifyConfig, collector: Collector | None = None
) -> Stream[Decision]:
    request = verification_pb2.StreamingVerifyRequest
    return Stream(
        VerificationServiceStub,
        "StreamingVerify",
        request(config=config),
        lambda audio: request(audio=audio),
        messages.call_decision,
        collector or Collector(None, 0.0),
        concludes=True,
    )


def _streamed(stream: Stream[Any], audio: bytes) -> Call[Any]:
    """The whole recording on a stream, whose last response counts."""
    requests = stream.requests([audio])
    return Call(stream.service, stream.rpc, requests, stream.read, streamed=True)


def _too_large(request: Any) -> bool:
    size: int = request.ByteSize()
    if size > messages.MAX_MESSAGE_BYTES:
        log.debug("a request of %d bytes is too large for one message", size)
    return size > messages.MAX_MESSAGE_BYTES
