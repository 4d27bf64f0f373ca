"""Messages to domain values and back, one short function each.

What may hold a score takes `scores`: whether the caller may see any.
"""

import math
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from google.protobuf.timestamp_pb2 import Timestamp
from sayso.v1 import audio_pb2, decision_pb2, speaker_pb2, verification_pb2, watchlist_pb2

from service.audio.codecs import CODECS, Codec
from service.audio.formats import AudioFormat
from service.audio.quality import Quality
from service.audit import Receipt
from service.calls.identification import Identification, Match
from service.calls.screening import Findings
from service.calls.verification import Comparison
from service.decisions.decision import (
    Band,
    Costs,
    Decision,
    Demands,
    Outcome,
    Policy,
    Reason,
    SequentialTest,
    explain,
)
from service.errors import InvalidArgument
from service.inference.embedder import Utterance
from service.speakers.enrollment import Duplicates, Enrolment, EnrolmentRequest, Progress
from service.speakers.holdings import Holdings
from service.store import Consent, Speaker, SpeakerState, Tally, Version, Voiceprint

MAX_SPEAKER_ID_CHARACTERS = 128
MAX_METADATA_ENTRIES = 32
MAX_METADATA_KEY_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 256

_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799  # what google.protobuf.Timestamp can hold
_CODECS: Mapping[int, type[Codec] | None] = {
    audio_pb2.AUDIO_ENCODING_UNSPECIFIED: None,
    **{
        audio_pb2.AudioEncoding.Value(f"AUDIO_ENCODING_{name}"): codec
        for name, codec in CODECS.items()
    },
}
_STATES = {
    each: speaker_pb2.SpeakerState.Value(f"SPEAKER_STATE_{each.name}") for each in SpeakerState
}
_OUTCOMES = {each: decision_pb2.Outcome.Value(f"OUTCOME_{each.name}") for each in Outcome}
_BANDS = {each: decision_pb2.Band.Value(f"BAND_{each.name}") for each in Band}
_REASONS = {each: decision_pb2.Reason.Value(f"REASON_{each.name}") for each in Reason}
_DUPLICATES = {
    verification_pb2.DUPLICATE_POLICY_UNSPECIFIED: None,
    verification_pb2.DUPLICATE_POLICY_ALLOW: Duplicates.ALLOW,
    verification_pb2.DUPLICATE_POLICY_FLAG: Duplicates.FLAG,
    verification_pb2.DUPLICATE_POLICY_REFUSE: Duplicates.REFUSE,
}


def speaker_id(value: str, *, field: str = "speaker_id") -> str:
    return named(value, most=MAX_SPEAKER_ID_CHARACTERS, field=field)


def named(value: str, *, most: int, field: str) -> str:
    """1 to `most` characters, none of them a control character."""
    if not 1 <= len(value) <= most:
        raise InvalidArgument(f"must be 1 to {most} characters", field=field)
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise InvalidArgument("must not hold control characters", field=field)
    return value


def audio_format(config: audio_pb2.AudioConfig) -> AudioFormat:
    if config.encoding not in _CODECS:
        raise InvalidArgument("is not an encoding of this API", field="audio.encoding")
    return AudioFormat(
        codec=_CODECS[config.encoding],
        sample_rate=config.sample_rate or None,
        channels=config.channels or None,
        channel=config.channel if config.HasField("channel") else None,
    )


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request's policy leaves out. `sequential` is what one that asks for a sequential test
    leaves out of it, `floor_s` the net speech that the model needs at least."""

    policy: Policy
    sequential: SequentialTest
    floor_s: float


def policy(message: decision_pb2.DecisionPolicy, defaults: Defaults, *, looser: bool) -> Policy:
    """The request's policy over the server's. If it may not be `looser`, its threshold and what it
    demands of the audio are at least the server's: outcomes under many thresholds would tell the
    score, and worse audio makes it less certain."""
    default = defaults.policy
    criterion, origin = default.criterion, default.origin
    match message.WhichOneof("threshold"):
        case "target_false_match_rate":
            criterion, origin = message.target_false_match_rate, "request"
        case "costs":
            criterion, origin = _costs(message.costs), "request"
    own, asked = default.demands, message.HasField
    demands = Demands(
        message.min_net_speech_s if asked("min_net_speech_s") else own.min_speech_s,
        message.min_snr_db if asked("min_snr_db") else own.min_snr_db,
        own.max_clipping,
    )
    if demands.min_speech_s < defaults.floor_s:
        demands = replace(demands, min_speech_s=defaults.floor_s)
    if not looser:
        demands = demands.at_least(own)
    sequential = None
    if message.HasField("sequential"):
        sequential = _sequential(message.sequential, defaults.sequential)
        sequential = sequential if looser else _stricter(sequential, defaults.sequential)
    return Policy(criterion, origin, demands, sequential, at_least=None if looser else default)


def enrolment_request(
    config: verification_pb2.EnrollConfig, *, tenant: str, credential: str = ""
) -> EnrolmentRequest:
    if config.duplicates not in _DUPLICATES:
        raise InvalidArgument("is not a policy of this API", field="config.duplicates")
    return EnrolmentRequest(
        tenant=tenant,
        speaker_id=speaker_id(config.speaker_id, field="config.speaker_id"),
        replacing=config.replace,
        metadata=metadata(config.metadata),
        consent=consent(config.consent) if config.HasField("consent") else None,
        etag=config.etag,
        confirm=config.require_confirmation,
        duplicates=_DUPLICATES[config.duplicates],
        credential=credential,
    )


def metadata(entries: Mapping[str, str]) -> dict[str, str]:
    given = dict(entries)
    if len(given) > MAX_METADATA_ENTRIES:
        raise InvalidArgument(f"holds more than {MAX_METADATA_ENTRIES} entries", field="metadata")
    for key, value in given.items():
        if not 1 <= len(key) <= MAX_METADATA_KEY_CHARACTERS or len(value) > MAX_TEXT_CHARACTERS:
            raise InvalidArgument(
                f"keys are 1 to {MAX_METADATA_KEY_CHARACTERS} characters, values at most "
                f"{MAX_TEXT_CHARACTERS}",
                field="metadata",
            )
    return given


def consent(message: speaker_pb2.Consent, *, clock: Callable[[], float] = time.time) -> Consent:
    """A consent whose time is left out was given now."""
    if not 1 <= len(message.reference) <= MAX_TEXT_CHARACTERS:
        raise InvalidArgument(
            f"must be 1 to {MAX_TEXT_CHARACTERS} characters", field="consent.reference"
        )
    at = _seconds(message.time, field="consent.time") if message.HasField("time") else clock()
    return Consent(message.reference, at)


def quality_message(quality: Quality) -> audio_pb2.Quality:
    return audio_pb2.Quality(
        net_speech_s=quality.net_speech_s,
        audio_s=quality.total_s,
        snr_db=quality.snr_db,
        clipping=quality.clipping,
        peak_dbfs=quality.peak_dbfs,
    )


def decision_message(
    decision: Decision, matches: Sequence[Match] = (), *, scores: bool
) -> decision_pb2.Decision:
    """`matches` are those on watchlists."""
    score, threshold = decision.score if scores else None, decision.threshold
    found = _watchlisted(matches)
    return decision_pb2.Decision(
        outcome=_OUTCOMES[decision.outcome],
        reasons=_reasons((*decision.reasons, *found)),
        explanation=_explained(decision.explanation, found),
        cosine=score.cosine if score else None,
        llr=score.llr if score else None,
        threshold=(
            decision_pb2.Threshold(llr=threshold.llr if scores else None, source=threshold.source)
            if threshold
            else None
        ),
        quality=quality_message(decision.quality),
        speech_needed_s=decision.speech_needed_s,
        model_id=decision.model_id,
        band=_BANDS[decision.band] if decision.band else decision_pb2.BAND_UNSPECIFIED,
    )


def progress_message(progress: Progress) -> speaker_pb2.EnrollmentProgress:
    return speaker_pb2.EnrollmentProgress(
        net_speech_s=progress.speech_s, speech_needed_s=progress.needed_s
    )


def speaker_message(
    speaker: Speaker, progress: Progress, *, expires_at: float = math.inf
) -> speaker_pb2.Speaker:
    held = speaker.consent
    return speaker_pb2.Speaker(
        speaker_id=speaker.speaker_id,
        state=_STATES[speaker.state],
        progress=progress_message(progress),
        voiceprints=[_voiceprint(held) for held in speaker.voiceprints.values()],
        metadata=speaker.metadata,
        consent=(
            speaker_pb2.Consent(reference=held.reference, time=_timestamp(held.at))
            if held
            else None
        ),
        create_time=_timestamp(speaker.created_at),
        update_time=_timestamp(speaker.updated_at),
        etag=speaker.etag,
        opt_out_time=None if speaker.opted_out_at is None else _timestamp(speaker.opted_out_at),
        expire_time=None if math.isinf(expires_at) else _timestamp(expires_at),
        undo_levels=len(speaker.history),
    )


def receipt_message(receipt: Receipt) -> speaker_pb2.DeletionReceipt:
    return speaker_pb2.DeletionReceipt(
        time=_timestamp(receipt.at), subject=receipt.subject, audit_digest=receipt.digest
    )


def export_response(
    speaker: speaker_pb2.Speaker, held: Holdings
) -> speaker_pb2.ExportSpeakerResponse:
    """All that is held, beside the message that says what is known of the speaker."""
    return speaker_pb2.ExportSpeakerResponse(
        speaker=speaker,
        voiceprints=map(_exported, held.speaker.voiceprints.values()),
        history=map(_version, held.speaker.history),
        groups=held.groups,
        failed_verifications=failures_message(held.failures),
    )


def enroll_response(
    enrolment: Enrolment, matches: Sequence[Match] = (), *, scores: bool
) -> verification_pb2.EnrollResponse:
    """The last response of an enrolment; `matches` are those on watchlists."""
    speaker, found = enrolment.speaker, _watchlisted(matches)
    return verification_pb2.EnrollResponse(
        done=True,
        progress=progress_message(enrolment.progress),
        quality=quality_message(enrolment.quality),
        stored=speaker is not None,
        reasons=_reasons((*enrolment.reasons, *found)),
        explanation=_explained(enrolment.explanation, found),
        speaker=(
            speaker_message(speaker, enrolment.progress, expires_at=enrolment.expires_at)
            if speaker
            else None
        ),
        duplicate_speaker_ids=enrolment.duplicates,
        watchlist_matches=match_messages(matches, scores=scores),
    )


def embed_response(
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
        quality=quality_message(quality),
        speech_needed_s=max(0.0, min_speech_s - quality.net_speech_s),
    )


def verify_response(
    decision: Decision, matches: Sequence[Match] = (), *, scores: bool
) -> verification_pb2.VerifyResponse:
    return verification_pb2.VerifyResponse(
        decision=decision_message(decision, matches, scores=scores),
        watchlist_matches=match_messages(matches, scores=scores),
    )


def identify_response(found: Identification, *, scores: bool) -> verification_pb2.IdentifyResponse:
    return verification_pb2.IdentifyResponse(
        decision=decision_message(found.decision, scores=scores),
        candidates=_candidates(found, scores=scores),
    )


def call_response(
    decision: Decision, findings: Findings, *, done: bool, scores: bool
) -> verification_pb2.StreamingVerifyResponse:
    found = findings.identification
    return verification_pb2.StreamingVerifyResponse(
        done=done,
        decision=decision_message(decision, findings.matches, scores=scores),
        watchlist_matches=match_messages(findings.matches, scores=scores),
        candidates=_candidates(found, scores=scores) if found else (),
        identification=decision_message(found.decision, scores=scores) if found else None,
    )


def match_messages(matches: Iterable[Match], *, scores: bool) -> list[watchlist_pb2.GroupMatch]:
    return [
        watchlist_pb2.GroupMatch(
            group=match.group,
            speaker_id=match.speaker_id,
            cosine=match.score.cosine if scores else None,
            llr=match.score.llr if scores else None,
            model_id=match.model_id,
        )
        for match in matches
    ]


def comparison_message(comparison: Comparison) -> verification_pb2.Comparison:
    return verification_pb2.Comparison(cosine=comparison.cosine, llr=comparison.llr)


def _candidates(found: Identification, *, scores: bool) -> list[watchlist_pb2.GroupMatch]:
    """Without `scores` only who was accepted: the nearest members, asked for again and again, would
    list the group."""
    if scores:
        return match_messages(found.candidates, scores=True)
    accepted = found.decision.outcome is Outcome.ACCEPTED
    return match_messages(found.candidates[:1] if accepted else (), scores=False)


def _watchlisted(matches: Sequence[Match]) -> tuple[Reason, ...]:
    return (Reason.WATCHLISTED,) if matches else ()


def _explained(explanation: str, found: tuple[Reason, ...]) -> str:
    return f"{explanation}; {explain(found, 0.0)}" if found else explanation


def _reasons(reasons: Iterable[Reason]) -> list[decision_pb2.Reason.ValueType]:
    return [_REASONS[reason] for reason in reasons]


def _costs(message: decision_pb2.CostModel) -> Costs:
    return Costs(message.target_prior, message.miss_cost, message.false_accept_cost)


def _sequential(message: decision_pb2.SequentialTest, default: SequentialTest) -> SequentialTest:
    return SequentialTest(
        message.false_match_rate or default.false_match_rate,
        message.false_non_match_rate or default.false_non_match_rate,
        message.max_net_speech_s or default.max_speech_s,
    )


def _stricter(asked: SequentialTest, default: SequentialTest) -> SequentialTest:
    """Either bound tells on which side of it the score is, and both follow from both rates."""
    return replace(
        asked,
        false_match_rate=min(asked.false_match_rate, default.false_match_rate),
        false_non_match_rate=default.false_non_match_rate,
    )


def _voiceprint(held: Voiceprint) -> speaker_pb2.VoiceprintSummary:
    return speaker_pb2.VoiceprintSummary(
        model_id=held.model_id,
        vectors=len(held.speech_s),
        net_speech_s=float(held.speech_s.sum()),
        create_time=_timestamp(held.created_at),
        use_time=None if held.used_at is None else _timestamp(held.used_at),
    )


def _exported(held: Voiceprint) -> speaker_pb2.ExportedVoiceprint:
    vectors = zip(held.vectors.tolist(), held.speech_s.tolist(), strict=True)
    return speaker_pb2.ExportedVoiceprint(
        model_id=held.model_id,
        vectors=[
            speaker_pb2.ExportedVector(values=values, net_speech_s=speech_s)
            for values, speech_s in vectors
        ],
        create_time=_timestamp(held.created_at),
        use_time=None if held.used_at is None else _timestamp(held.used_at),
    )


def failures_message(held: Tally) -> speaker_pb2.FailedVerifications:
    return speaker_pb2.FailedVerifications(
        times=[_timestamp(held.failed_at)] if held.failed_at else [],
        locked_until=_timestamp(held.locked_until) if held.locked_until else None,
        consecutive=held.consecutive,
        total=held.total,
        disabled=held.disabled,
    )


def _version(held: Version) -> speaker_pb2.ExportedVersion:
    return speaker_pb2.ExportedVersion(
        state=_STATES[held.state],
        voiceprints=map(_exported, held.voiceprints.values()),
        enroll_time=None if held.enrolled_at is None else _timestamp(held.enrolled_at),
    )


def _seconds(stamp: Timestamp, *, field: str) -> float:
    """Since the epoch; the last second of the year 9999 may round to one that is no timestamp."""
    at = stamp.seconds + stamp.nanos / 1e9
    if not (0 <= stamp.nanos < 10**9 and _FIRST_S <= at <= _LAST_S):
        raise InvalidArgument("is no time of the years 1 to 9999", field=field)
    return at


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp
