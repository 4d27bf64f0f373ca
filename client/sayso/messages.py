"""Values to protobuf messages and back."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from sayso.v1 import (
    audio_pb2,
    call_pb2,
    decision_pb2,
    event_pb2,
    group_pb2,
    speaker_pb2,
    verification_pb2,
)
from sayso.values import (
    AnnouncedCall,
    BatchItem,
    Claimed,
    ClaimedSpeaker,
    Costs,
    Decision,
    Embedding,
    Enrollment,
    Event,
    EventType,
    FailedVerifications,
    Group,
    Identification,
    Match,
    RawAudio,
    Receipt,
    SequentialTest,
    Speaker,
)

MAX_MESSAGE_BYTES = 4 * 2**20
"""The largest message that gRPC servers take; a longer recording is streamed."""

_MAX_SPEAKERS_AT_ONCE = 1000


def audio_config(raw: RawAudio | None, channel: int | None) -> audio_pb2.AudioConfig:
    if raw is None:
        return audio_pb2.AudioConfig(encoding=audio_pb2.AUDIO_ENCODING_FILE, channel=channel)
    return audio_pb2.AudioConfig(
        encoding=audio_pb2.AudioEncoding.Value(f"AUDIO_ENCODING_{raw.encoding}"),
        sample_rate_hertz=raw.sample_rate,
        channels=raw.channels,
        channel=channel,
    )


def policy(
    target_false_match_rate: float | None,
    costs: Costs | None,
    min_net_speech_s: float | None,
    min_snr_db: float | None,
    sequential: SequentialTest | None = None,
) -> decision_pb2.DecisionPolicy:
    if target_false_match_rate is not None and costs is not None:
        raise ValueError("a threshold follows from target_false_match_rate or costs, not from both")
    policy = decision_pb2.DecisionPolicy(min_net_speech_s=min_net_speech_s, min_snr_db=min_snr_db)
    if target_false_match_rate is not None:
        policy.target_false_match_rate = target_false_match_rate
    if costs is not None:
        policy.costs.CopyFrom(
            decision_pb2.CostModel(
                target_prior=costs.target_prior,
                miss_cost=costs.miss_cost,
                false_accept_cost=costs.false_accept_cost,
            )
        )
    if sequential is not None:
        policy.sequential.CopyFrom(
            decision_pb2.SequentialTest(
                false_match_rate=sequential.false_match_rate,
                false_non_match_rate=sequential.false_non_match_rate,
                max_net_speech_s=sequential.max_net_speech_s,
            )
        )
    return policy


def enroll_config(item: BatchItem) -> verification_pb2.EnrollConfig:
    return verification_pb2.EnrollConfig(
        speaker_id=item.speaker_id,
        audio_config=audio_config(item.raw, item.channel),
        replace=item.replace,
        metadata=item.metadata,
        consent=consent(item.consent),
        require_confirmation=item.require_confirmation,
        duplicates=verification_pb2.DuplicatePolicy.Value(
            f"DUPLICATE_POLICY_{item.duplicates or 'UNSPECIFIED'}"
        ),
        etag=item.etag,
        watchlists=item.watchlists,
        request_id=item.request_id,
    )


def embedding_message(embedding: Embedding) -> verification_pb2.Embedding:
    return verification_pb2.Embedding(
        model_id=embedding.model_id,
        values=embedding.values,
        net_speech_s=embedding.net_speech_s,
    )


def reasons(reasons: Iterable[Any]) -> tuple[str, ...]:
    return tuple(decision_pb2.Reason.Name(reason).removeprefix("REASON_") for reason in reasons)


def decision(
    made: decision_pb2.Decision, watchlist_matches: Iterable[group_pb2.GroupMatch] = ()
) -> Decision:
    outcome: Any = decision_pb2.Outcome.Name(made.outcome).removeprefix("OUTCOME_")
    band: Any = decision_pb2.Band.Name(made.band).removeprefix("BAND_") if made.band else None
    return Decision(
        outcome=outcome,
        explanation=made.explanation,
        reasons=reasons(made.reasons),
        cosine=_optional(made, "cosine"),
        llr=_optional(made, "llr"),
        threshold_llr=_optional(made.threshold, "llr"),
        threshold_source=_threshold_source(made.threshold.source),
        threshold_description=made.threshold.description,
        net_speech_s=made.quality.net_speech_s,
        speech_needed_s=made.speech_needed_s,
        model_id=made.model_id,
        watchlist_matches=tuple(map(match, watchlist_matches)),
        band=band,
        **_quality(made.quality),
        decision_id=made.decision_id,
        decided_at=_time(made, "decide_time"),
        audio_offset_s=made.audio_offset_s,
        speaker_id=made.speaker_id,
        matched_speaker_id=made.matched_speaker_id,
        claimed_speakers=tuple(map(_claimed_speaker, made.claimed_speakers)),
    )


def split_claim(claimed: Claimed) -> tuple[str, tuple[str, ...]]:
    """The claimed speaker, and who else may be speaking."""
    if isinstance(claimed, str):
        return claimed, ()
    first, *others = claimed or ("",)
    return first, tuple(others)


def _claimed_speaker(speaker: decision_pb2.ClaimedSpeaker) -> ClaimedSpeaker:
    status: Any = decision_pb2.ClaimStatus.Name(speaker.status).removeprefix("CLAIM_STATUS_")
    return ClaimedSpeaker(
        speaker.speaker_id, status, _optional(speaker, "cosine"), _optional(speaker, "llr")
    )


def _threshold_source(source: Any) -> Any:
    name: str = decision_pb2.ThresholdSource.Name(source)
    return name.removeprefix("THRESHOLD_SOURCE_") if source else None


def verification(response: verification_pb2.VerifyResponse) -> Decision:
    return decision(response.decision, response.watchlist_matches)


def identification(response: verification_pb2.IdentifyResponse) -> Identification:
    return Identification(decision(response.decision), tuple(map(match, response.candidates)))


def call_identification(response: verification_pb2.StreamingVerifyResponse) -> Identification:
    candidates = tuple(map(match, response.candidates))
    return Identification(decision(response.identification), candidates)


def embedding(response: verification_pb2.EmbedResponse) -> Embedding | None:
    if not response.HasField("embedding"):
        return None
    made = response.embedding
    return Embedding(made.model_id, tuple(made.values), made.net_speech_s)


def cosine(response: verification_pb2.CompareResponse) -> float:
    return response.comparisons[0].cosine


def call_decision(response: verification_pb2.StreamingVerifyResponse) -> Decision:
    made = decision(response.decision, response.watchlist_matches)
    if not response.HasField("identification"):
        return made
    return dataclasses.replace(made, identification=call_identification(response))


def enrollment_progress(response: verification_pb2.StreamingEnrollResponse) -> Enrollment:
    """Of a stream: the result once there is one, and before what has been heard."""
    if response.HasField("result"):
        return enrollment(response.result)
    return Enrollment(
        stored=False,
        explanation="",
        reasons=(),
        net_speech_s=response.progress.net_speech_s,
        speech_needed_s=response.progress.speech_needed_s,
        speaker=None,
        done=False,
        **_quality(response.quality),
    )


def enrollment(last: verification_pb2.EnrollResponse) -> Enrollment:
    return Enrollment(
        stored=last.stored,
        explanation=last.explanation,
        reasons=reasons(last.reasons),
        net_speech_s=last.progress.net_speech_s,
        speech_needed_s=last.progress.speech_needed_s,
        speaker=speaker(last.speaker) if last.HasField("speaker") else None,
        duplicates=tuple(last.duplicate_speaker_ids),
        watchlist_matches=tuple(map(match, last.watchlist_matches)),
        **_quality(last.quality),
    )


def _quality(quality: audio_pb2.Quality) -> dict[str, Any]:
    return {
        "audio_s": quality.audio_s,
        "snr_db": _optional(quality, "snr_db"),
        "clipping_ratio": quality.clipping_ratio,
        "peak_dbfs": quality.peak_dbfs,
    }


def speaker(speaker: speaker_pb2.Speaker) -> Speaker:
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
        locked_until=_time(speaker, "lock_expire_time"),
        created_at=_time(speaker, "create_time"),
        updated_at=_time(speaker, "update_time"),
    )


def failed_verifications(given: speaker_pb2.FailedVerifications) -> FailedVerifications:
    return FailedVerifications(
        given.consecutive,
        given.total,
        _time(given, "lock_expire_time"),
        given.disabled,
        _time(given, "last_failure_time"),
    )


def receipt(given: speaker_pb2.DeletionReceipt) -> Receipt:
    return Receipt(given.time.ToDatetime(tzinfo=UTC), given.subject, given.audit_digest)


def consent(reference: str | None) -> speaker_pb2.Consent | None:
    return None if reference is None else speaker_pb2.Consent(reference=reference)


def _time(message: Any, field: str) -> datetime | None:
    return getattr(message, field).ToDatetime(tzinfo=UTC) if message.HasField(field) else None


def timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    made = Timestamp()
    made.FromDatetime(time)
    return made


def thousands(values: Iterable[str]) -> Iterator[tuple[str, ...]]:
    remaining = iter(values)
    while some := tuple(itertools.islice(remaining, _MAX_SPEAKERS_AT_ONCE)):
        yield some


def group(group: group_pb2.Group) -> Group:
    created_at = _time(group, "create_time")
    return Group(group.name, group.description, group.member_count, created_at)


def announced_call(call: call_pb2.AnnouncedCall) -> AnnouncedCall:
    return AnnouncedCall(
        call.call_id, tuple(call.speaker_ids), call.policy_name, _time(call, "expire_time")
    )


def event_type(name: EventType) -> event_pb2.EventType.ValueType:
    """Raise ValueError for what is not a type of events."""
    return event_pb2.EventType.Value(f"EVENT_TYPE_{name.replace('.', '_').upper()}")


def event(response: event_pb2.WatchEventsResponse, *, lost: int) -> Event:
    told = response.event
    kind: Any = event_pb2.EventType.Name(told.type).removeprefix("EVENT_TYPE_").lower()
    matches = tuple(map(match, told.watchlist_matches))
    return Event(
        event_id=told.event_id,
        type=kind.replace("_", "."),
        created_at=told.create_time.ToDatetime(tzinfo=UTC),
        speaker_id=told.speaker_id,
        request_id=told.request_id,
        decision=(
            decision(told.decision, told.watchlist_matches) if told.HasField("decision") else None
        ),
        watchlist_matches=matches,
        locked_until=_time(told, "lock_expire_time"),
        resume_token=response.resume_token,
        lost=lost,
    )


def match(match: group_pb2.GroupMatch) -> Match:
    return Match(
        match.group_name,
        match.speaker_id,
        _optional(match, "cosine"),
        _optional(match, "llr"),
        match.model_id,
    )


def _optional(message: Any, field: str) -> float | None:
    return getattr(message, field) if message.HasField(field) else None
