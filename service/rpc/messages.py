"""Parses protobuf messages into domain values and builds messages from them.

A function whose message may contain scores takes `scores`: whether the caller may see them.
"""

import math
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from sayso.v1 import audio_pb2, decision_pb2, group_pb2, speaker_pb2, verification_pb2

from service.audio.codecs import CODECS, Codec
from service.audio.formats import AudioFormat
from service.audio.quality import Quality
from service.audit import Receipt
from service.calls.identification import Identification
from service.calls.live import Answer
from service.calls.verification import Comparison
from service.decisions.decision import (
    Band,
    ClaimedSpeaker,
    ClaimStatus,
    Decision,
    Outcome,
    Reason,
    explain,
)
from service.decisions.match import Match
from service.decisions.named_policies import NamedPolicy
from service.decisions.policy import Costs, RequestedPolicy, RequestedTest, ThresholdSource
from service.errors import InvalidArgument
from service.inference.embedder import Utterance
from service.settings import Duplicates
from service.speakers.enrollment import Enrollment, EnrollmentRequest, Progress
from service.store import Consent, FailureCount, Speaker, SpeakerState, Version, Voiceprint

MAX_SPEAKER_ID_CHARACTERS = 128
MAX_ALTERNATIVES = 7
MAX_REQUEST_ID_CHARACTERS = 64
MAX_METADATA_ENTRIES = 32
MAX_METADATA_KEY_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 256

_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799  # what google.protobuf.Timestamp can hold
_CODECS: Mapping[int, type[Codec] | None] = {
    audio_pb2.AUDIO_ENCODING_FILE: None,
    **{
        audio_pb2.AudioEncoding.Value(f"AUDIO_ENCODING_{name}"): codec
        for name, codec in CODECS.items()
    },
}
_STATES = {
    state: speaker_pb2.SpeakerState.Value(f"SPEAKER_STATE_{state.name}") for state in SpeakerState
}
_OUTCOMES = {one: decision_pb2.Outcome.Value(f"OUTCOME_{one.name}") for one in Outcome}
_SOURCES = {
    one: decision_pb2.ThresholdSource.Value(f"THRESHOLD_SOURCE_{one.name}")
    for one in ThresholdSource
}
_BANDS = {one: decision_pb2.Band.Value(f"BAND_{one.name}") for one in Band}
_CLAIM_STATUSES = {
    one: decision_pb2.ClaimStatus.Value(f"CLAIM_STATUS_{one.name}") for one in ClaimStatus
}
_REASONS = {one: decision_pb2.Reason.Value(f"REASON_{one.name}") for one in Reason}
_DUPLICATES = {
    verification_pb2.DUPLICATE_POLICY_UNSPECIFIED: None,
    verification_pb2.DUPLICATE_POLICY_ALLOW: Duplicates.ALLOW,
    verification_pb2.DUPLICATE_POLICY_FLAG: Duplicates.FLAG,
    verification_pb2.DUPLICATE_POLICY_REFUSE: Duplicates.REFUSE,
}


def parse_speaker_id(value: str, *, field: str = "speaker_id") -> str:
    return parse_name(value, most=MAX_SPEAKER_ID_CHARACTERS, field=field)


def parse_alternatives(values: Sequence[str], speaker_id: str, *, field: str) -> tuple[str, ...]:
    """Return the ids of those who may be speaking instead of the claimed `speaker_id`."""
    if len(values) > MAX_ALTERNATIVES:
        raise InvalidArgument(f"holds more than {MAX_ALTERNATIVES} speakers", field=field)
    alternatives = tuple(parse_speaker_id(value, field=field) for value in values)
    if len({speaker_id, *alternatives}) <= len(alternatives):
        raise InvalidArgument("names a speaker twice; name each once", field=field)
    return alternatives


def parse_name(value: str, *, most: int, field: str) -> str:
    """Return a name of 1 to `most` characters, none of them a control character."""
    if not 1 <= len(value) <= most:
        raise InvalidArgument(f"must be 1 to {most} characters", field=field)
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise InvalidArgument("must not hold control characters", field=field)
    return value


def parse_audio_format(config: audio_pb2.AudioConfig) -> AudioFormat:
    if config.encoding == audio_pb2.AUDIO_ENCODING_UNSPECIFIED:
        raise InvalidArgument(
            "is required: AUDIO_ENCODING_FILE for a file that describes itself (WAV, FLAC, Ogg "
            "Opus, MP3), or the encoding of raw samples",
            field="audio_config.encoding",
        )
    if config.encoding not in _CODECS:
        raise InvalidArgument("is not an encoding of this API", field="audio_config.encoding")
    return AudioFormat(
        codec=_CODECS[config.encoding],
        sample_rate=config.sample_rate_hertz if config.HasField("sample_rate_hertz") else None,
        channels=config.channels if config.HasField("channels") else None,
        channel=config.channel if config.HasField("channel") else None,
    )


def parse_policy(
    message: decision_pb2.DecisionPolicy, *, looser: bool, named: NamedPolicy | None = None
) -> RequestedPolicy:
    """Parse the policy of a request, laid over the `named` one; `looser` says whether it may be
    looser than those of the server."""
    criterion: float | Costs | None = None
    match message.WhichOneof("threshold"):
        case "target_false_match_rate":
            criterion = message.target_false_match_rate
        case "costs":
            criterion = _parse_costs(message.costs)
    return RequestedPolicy(
        criterion,
        message.min_net_speech_s if message.HasField("min_net_speech_s") else None,
        message.min_snr_db if message.HasField("min_snr_db") else None,
        _parse_sequential_test(message.sequential) if message.HasField("sequential") else None,
        looser=looser,
        rules=None if named is None else named.rules,
    )


def parse_enrollment_request(
    config: verification_pb2.EnrollConfig, *, tenant: str, credential: str = ""
) -> EnrollmentRequest:
    if config.duplicates not in _DUPLICATES:
        raise InvalidArgument("is not a policy of this API", field="config.duplicates")
    return EnrollmentRequest(
        tenant=tenant,
        speaker_id=parse_speaker_id(config.speaker_id, field="config.speaker_id"),
        replacing=config.replace,
        metadata=parse_metadata(config.metadata),
        consent=parse_consent(config.consent) if config.HasField("consent") else None,
        etag=config.etag,
        confirm=config.require_confirmation,
        duplicates=_DUPLICATES[config.duplicates],
        credential=credential,
        request_id=_parse_request_id(config.request_id),
    )


def _parse_request_id(value: str) -> str:
    if not value:
        return ""
    return parse_name(value, most=MAX_REQUEST_ID_CHARACTERS, field="config.request_id")


def parse_metadata(entries: Mapping[str, str], *, field: str = "metadata") -> dict[str, str]:
    metadata = dict(entries)
    if len(metadata) > MAX_METADATA_ENTRIES:
        raise InvalidArgument(f"holds more than {MAX_METADATA_ENTRIES} entries", field=field)
    for key, value in metadata.items():
        if not 1 <= len(key) <= MAX_METADATA_KEY_CHARACTERS or len(value) > MAX_TEXT_CHARACTERS:
            raise InvalidArgument(
                f"keys are 1 to {MAX_METADATA_KEY_CHARACTERS} characters, values at most "
                f"{MAX_TEXT_CHARACTERS}",
                field=field,
            )
    return metadata


def parse_consent(
    message: speaker_pb2.Consent, *, clock: Callable[[], float] = time.time
) -> Consent:
    """Parse a consent; without a time it was given now."""
    if not 1 <= len(message.reference) <= MAX_TEXT_CHARACTERS:
        raise InvalidArgument(
            f"must be 1 to {MAX_TEXT_CHARACTERS} characters", field="consent.reference"
        )
    at = parse_time(message.time, field="consent.time") if message.HasField("time") else clock()
    return Consent(message.reference, at)


def build_quality(quality: Quality) -> audio_pb2.Quality:
    return audio_pb2.Quality(
        net_speech_s=quality.net_speech_s,
        audio_s=quality.total_s,
        snr_db=quality.snr_db,
        clipping_ratio=quality.clipping,
        peak_dbfs=quality.peak_dbfs,
    )


def build_decision(
    decision: Decision, matches: Sequence[Match] = (), *, scores: bool
) -> decision_pb2.Decision:
    """Build a decision; `matches` are those on watchlists."""
    score, threshold, stamp = decision.score if scores else None, decision.threshold, decision.stamp
    also = _get_watchlist_reasons(matches)
    return decision_pb2.Decision(
        outcome=_OUTCOMES[decision.outcome],
        reasons=_build_reasons((*decision.reasons, *also)),
        explanation=_add_reasons(decision.explanation, also),
        cosine=score.cosine if score else None,
        llr=score.llr if score else None,
        threshold=(
            decision_pb2.Threshold(
                llr=threshold.llr if scores else None,
                source=_SOURCES[threshold.source],
                description=threshold.description,
            )
            if threshold
            else None
        ),
        quality=build_quality(decision.quality),
        speech_needed_s=decision.speech_needed_s,
        model_id=decision.model_id,
        band=_BANDS[decision.band] if decision.band else decision_pb2.BAND_UNSPECIFIED,
        decision_id=stamp.decision_id if stamp else "",
        decide_time=build_timestamp(stamp.decided_at) if stamp else None,
        audio_offset_s=stamp.audio_offset_s if stamp else 0.0,
        speaker_id=decision.speaker_id,
        matched_speaker_id=decision.matched,
        claimed_speakers=[
            _build_claimed_speaker(speaker, scores=scores) for speaker in decision.claimed
        ],
    )


def build_progress(progress: Progress) -> speaker_pb2.EnrollmentProgress:
    return speaker_pb2.EnrollmentProgress(
        net_speech_s=progress.speech_s, speech_needed_s=progress.needed_s
    )


def build_speaker(
    speaker: Speaker,
    progress: Progress,
    *,
    expires_at: float = math.inf,
    locked_until: float | None = None,
) -> speaker_pb2.Speaker:
    consent = speaker.consent
    return speaker_pb2.Speaker(
        speaker_id=speaker.speaker_id,
        state=_STATES[speaker.state],
        progress=build_progress(progress),
        voiceprints=map(_summarize, speaker.voiceprints.values()),
        metadata=speaker.metadata,
        consent=(
            speaker_pb2.Consent(reference=consent.reference, time=build_timestamp(consent.at))
            if consent
            else None
        ),
        create_time=build_timestamp(speaker.created_at),
        update_time=build_timestamp(speaker.updated_at),
        etag=speaker.etag,
        opt_out_time=None
        if speaker.opted_out_at is None
        else build_timestamp(speaker.opted_out_at),
        expire_time=None if math.isinf(expires_at) else build_timestamp(expires_at),
        undo_levels=len(speaker.history),
        lock_expire_time=None if locked_until is None else build_timestamp(locked_until),
    )


def build_receipt(receipt: Receipt) -> speaker_pb2.DeletionReceipt:
    return speaker_pb2.DeletionReceipt(
        time=build_timestamp(receipt.at), subject=receipt.subject, audit_digest=receipt.digest
    )


def build_export_response(
    message: speaker_pb2.Speaker, speaker: Speaker, groups: Sequence[str], failures: FailureCount
) -> speaker_pb2.ExportSpeakerResponse:
    """Build the export of everything stored about a speaker, for a data subject's request.

    The audit trail is not part of it: only the operator has its key, see `sayso audit find`.
    """
    return speaker_pb2.ExportSpeakerResponse(
        speaker=message,
        voiceprints=map(_export_voiceprint, speaker.voiceprints.values()),
        history=map(_export_version, speaker.history),
        group_names=groups,
        failed_verifications=build_failures(failures),
    )


def build_enroll_response(
    enrollment: Enrollment, matches: Sequence[Match] = (), *, scores: bool
) -> verification_pb2.EnrollResponse:
    """Build the result of an enrollment; `matches` are those on watchlists."""
    speaker, also = enrollment.speaker, _get_watchlist_reasons(matches)
    return verification_pb2.EnrollResponse(
        stored=speaker is not None,
        progress=build_progress(enrollment.progress),
        quality=build_quality(enrollment.quality),
        reasons=_build_reasons((*enrollment.reasons, *also)),
        explanation=_add_reasons(enrollment.explanation, also),
        speaker=(
            build_speaker(speaker, enrollment.progress, expires_at=enrollment.expires_at)
            if speaker
            else None
        ),
        duplicate_speaker_ids=enrollment.duplicates,
        watchlist_matches=build_matches(matches, scores=scores),
    )


def build_embed_response(
    utterance: Utterance, *, model_id: str, min_speech_s: float
) -> verification_pb2.EmbedResponse:
    quality = utterance.quality
    return verification_pb2.EmbedResponse(
        embedding=(
            None
            if utterance.embedding is None
            else verification_pb2.Embedding(
                model_id=model_id,
                values=utterance.embedding.tolist(),
                net_speech_s=quality.net_speech_s,
                snr_db=quality.snr_db,
            )
        ),
        quality=build_quality(quality),
        speech_needed_s=max(0.0, min_speech_s - quality.net_speech_s),
    )


def build_verify_response(answer: Answer, *, scores: bool) -> verification_pb2.VerifyResponse:
    matches = answer.findings.matches
    return verification_pb2.VerifyResponse(
        decision=build_decision(answer.decision, matches, scores=scores),
        watchlist_matches=build_matches(matches, scores=scores),
    )


def build_identify_response(
    identification: Identification, *, scores: bool
) -> verification_pb2.IdentifyResponse:
    return verification_pb2.IdentifyResponse(
        decision=build_decision(identification.decision, scores=scores),
        candidates=_build_candidates(identification, scores=scores),
    )


def build_call_response(
    answer: Answer, *, scores: bool
) -> verification_pb2.StreamingVerifyResponse:
    matches, search = answer.findings.matches, answer.findings.identification
    return verification_pb2.StreamingVerifyResponse(
        done=answer.done,
        decision=build_decision(answer.decision, matches, scores=scores),
        watchlist_matches=build_matches(matches, scores=scores),
        candidates=_build_candidates(search, scores=scores) if search else (),
        identification=build_decision(search.decision, scores=scores) if search else None,
    )


def build_matches(matches: Iterable[Match], *, scores: bool) -> list[group_pb2.GroupMatch]:
    return [
        group_pb2.GroupMatch(
            group_name=match.group,
            speaker_id=match.speaker_id,
            cosine=match.score.cosine if scores else None,
            llr=match.score.llr if scores else None,
            model_id=match.model_id,
        )
        for match in matches
    ]


def build_comparison(comparison: Comparison) -> verification_pb2.Comparison:
    return verification_pb2.Comparison(cosine=comparison.cosine, llr=comparison.llr)


def _build_candidates(
    identification: Identification, *, scores: bool
) -> list[group_pb2.GroupMatch]:
    """Build the candidates; without `scores` only the accepted one, since a caller could list a
    group by repeatedly asking for its nearest members."""
    candidates = identification.candidates
    if scores:
        return build_matches(candidates, scores=True)
    accepted = identification.decision.outcome is Outcome.ACCEPTED
    return build_matches(candidates[:1] if accepted else (), scores=False)


def _build_claimed_speaker(speaker: ClaimedSpeaker, *, scores: bool) -> decision_pb2.ClaimedSpeaker:
    score = speaker.score if scores else None
    return decision_pb2.ClaimedSpeaker(
        speaker_id=speaker.speaker_id,
        status=_CLAIM_STATUSES[speaker.status],
        cosine=score.cosine if score else None,
        llr=score.llr if score else None,
    )


def _get_watchlist_reasons(matches: Sequence[Match]) -> tuple[Reason, ...]:
    return (Reason.WATCHLISTED,) if matches else ()


def _add_reasons(explanation: str, also: tuple[Reason, ...]) -> str:
    return f"{explanation}; {explain(also, 0.0)}" if also else explanation


def _build_reasons(reasons: Iterable[Reason]) -> list[decision_pb2.Reason.ValueType]:
    return [_REASONS[reason] for reason in reasons]


def _parse_costs(message: decision_pb2.CostModel) -> Costs:
    return Costs(message.target_prior, message.miss_cost, message.false_accept_cost)


def _parse_sequential_test(message: decision_pb2.SequentialTest) -> RequestedTest:
    return RequestedTest(
        message.false_match_rate if message.HasField("false_match_rate") else None,
        message.false_non_match_rate if message.HasField("false_non_match_rate") else None,
        message.max_net_speech_s if message.HasField("max_net_speech_s") else None,
    )


def _summarize(voiceprint: Voiceprint) -> speaker_pb2.VoiceprintSummary:
    return speaker_pb2.VoiceprintSummary(
        model_id=voiceprint.model_id,
        vectors=len(voiceprint.speech_s),
        net_speech_s=float(voiceprint.speech_s.sum()),
        create_time=build_timestamp(voiceprint.created_at),
        last_use_time=None if voiceprint.used_at is None else build_timestamp(voiceprint.used_at),
    )


def _export_voiceprint(voiceprint: Voiceprint) -> speaker_pb2.ExportedVoiceprint:
    vectors = zip(voiceprint.vectors.tolist(), voiceprint.speech_s.tolist(), strict=True)
    return speaker_pb2.ExportedVoiceprint(
        model_id=voiceprint.model_id,
        vectors=[
            speaker_pb2.ExportedVector(values=values, net_speech_s=speech_s)
            for values, speech_s in vectors
        ],
        create_time=build_timestamp(voiceprint.created_at),
        last_use_time=None if voiceprint.used_at is None else build_timestamp(voiceprint.used_at),
    )


def build_failures(count: FailureCount) -> speaker_pb2.FailedVerifications:
    return speaker_pb2.FailedVerifications(
        last_failure_time=build_timestamp(count.failed_at) if count.failed_at else None,
        lock_expire_time=build_timestamp(count.locked_until) if count.locked_until else None,
        consecutive=count.consecutive,
        total=count.total,
        disabled=count.disabled,
    )


def _export_version(version: Version) -> speaker_pb2.ExportedVersion:
    return speaker_pb2.ExportedVersion(
        state=_STATES[version.state],
        voiceprints=map(_export_voiceprint, version.voiceprints.values()),
        enroll_time=None if version.enrolled_at is None else build_timestamp(version.enrolled_at),
    )


def parse_time(stamp: Timestamp, *, field: str) -> float:
    """Return seconds since the epoch."""
    at = stamp.seconds + stamp.nanos / 1e9
    # Checked after rounding: the last nanoseconds of the year 9999 round up to the year 10000.
    if not (0 <= stamp.nanos < 10**9 and _FIRST_S <= at <= _LAST_S):
        raise InvalidArgument("is no time of the years 1 to 9999", field=field)
    return at


def build_timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp
