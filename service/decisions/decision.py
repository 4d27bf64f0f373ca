"""Decisions: from a log-likelihood ratio and a threshold to an outcome that explains itself."""

import enum
from dataclasses import dataclass, replace

from service.audio.quality import Quality
from service.decisions.policy import NO_GATE, QualityGate, SequentialTest, ThresholdSource
from service.decisions.thresholds import Threshold, raise_to_least

NOTHING_HEARD = Quality(net_speech_s=0, total_s=0, snr_db=None, clipping=0, peak_dbfs=-120)
_SILENT_DBFS, _QUIET_DBFS = -90.0, -45.0


class Outcome(enum.Enum):
    ACCEPTED = enum.auto()
    REJECTED = enum.auto()
    INCONCLUSIVE = enum.auto()
    NOT_ENROLLED = enum.auto()
    OPTED_OUT = enum.auto()
    EXPIRED = enum.auto()


class Reason(enum.Enum):
    NOT_ENOUGH_SPEECH = enum.auto()
    NO_SPEECH = enum.auto()
    TOO_NOISY = enum.auto()
    CLIPPED = enum.auto()
    UNDECIDED = enum.auto()
    VOICE_CHANGED = enum.auto()
    VOICE_MISMATCH = enum.auto()
    MULTIPLE_VOICES = enum.auto()
    ALREADY_ENROLLED = enum.auto()
    WATCHLISTED = enum.auto()
    NO_CLAIM = enum.auto()
    IMPLAUSIBLE_AUDIO = enum.auto()


class Band(enum.Enum):
    """A score in words, by the server's own threshold. All scores below it are WEAK, so that no
    answer says whether a guess came nearer."""

    WEAK = enum.auto()
    MODERATE = enum.auto()
    STRONG = enum.auto()


STRONG_MARGIN_LLR = 3.0
"""How far above the server's threshold a score is STRONG."""


@dataclass(frozen=True, slots=True)
class Score:
    """A comparison in the space of one model: cosine and calibrated natural-log ratio."""

    cosine: float
    llr: float


class ClaimStatus(enum.Enum):
    """Whether a speaker whom a household names was compared, or why not."""

    COMPARED = enum.auto()
    NOT_ENROLLED = enum.auto()
    OPTED_OUT = enum.auto()
    EXPIRED = enum.auto()
    LOCKED = enum.auto()


@dataclass(frozen=True, slots=True)
class ClaimedSpeaker:
    """One of several claimed speakers; `score` is None until the voice was compared."""

    speaker_id: str
    status: ClaimStatus
    score: Score | None = None


@dataclass(frozen=True, slots=True)
class Stamp:
    """Names a decision: when it was reached, in seconds since the epoch, and how many seconds of
    audio it took."""

    decision_id: str
    decided_at: float
    audio_offset_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    """An outcome with everything needed to explain it; a score never travels alone.

    `meets_server_policy` decides about consequences, whatever the request asked: True if the server
    itself would accept the speech, False if its ratio is below the server's threshold, None if
    nothing was compared or the audio is worse than the server demands. `band` is None if nothing
    was compared. `speaker_id` is who was claimed; a decision that is answered has a `stamp`.
    `likeliest` is which of the claimed speakers the voice is most like, empty if nothing was
    compared, and `claimed` are all of them if there are several.
    """

    outcome: Outcome
    model_id: str
    explanation: str
    reasons: tuple[Reason, ...] = ()
    score: Score | None = None
    threshold: Threshold | None = None
    quality: Quality = NOTHING_HEARD
    speech_needed_s: float = 0.0
    meets_server_policy: bool | None = None
    band: Band | None = None
    speaker_id: str = ""
    stamp: Stamp | None = None
    likeliest: str = ""
    claimed: tuple[ClaimedSpeaker, ...] = ()

    @property
    def matched(self) -> str:
        """Who of the claimed speakers was accepted, else empty."""
        return self.likeliest if self.outcome is Outcome.ACCEPTED else ""

    @property
    def conclusive(self) -> bool:
        return self.outcome in (Outcome.ACCEPTED, Outcome.REJECTED)


def choose_band(score: Score, server: Threshold) -> Band:
    """Return the word for a score, by the server's own threshold."""
    if score.llr < server.llr:
        return Band.WEAK
    strong = score.llr >= server.llr + STRONG_MARGIN_LLR
    return Band.STRONG if strong else Band.MODERATE


def list_shortcomings(quality: Quality, gate: QualityGate) -> tuple[Reason, ...]:
    """List why audio of this quality allows no decision; empty if it does."""
    if quality.suspicions.implausible:
        return (Reason.IMPLAUSIBLE_AUDIO,)
    if quality.net_speech_s == 0:
        return (Reason.NO_SPEECH,)
    noisy = quality.snr_db is not None and quality.snr_db < gate.min_snr_db
    checks = {
        Reason.NOT_ENOUGH_SPEECH: quality.net_speech_s < gate.min_speech_s,
        Reason.TOO_NOISY: noisy,
        Reason.CLIPPED: quality.clipping > gate.max_clipping,
    }
    return tuple(reason for reason, fails in checks.items() if fails)


def decide(score: Score, threshold: Threshold, quality: Quality, model_id: str) -> Decision:
    """Make the fixed decision: ACCEPTED if the log-likelihood ratio reaches the threshold."""
    accepted = score.llr >= threshold.llr
    return Decision(
        outcome=Outcome.ACCEPTED if accepted else Outcome.REJECTED,
        model_id=model_id,
        explanation=(
            f"the log-likelihood ratio is {'at or above' if accepted else 'below'} the threshold "
            f"from {threshold.description}"
        ),
        score=score,
        threshold=threshold,
        quality=quality,
    )


def decide_early(
    score: Score,
    test: SequentialTest,
    quality: Quality,
    model_id: str,
    *,
    least: Threshold | None = None,
    rejects: bool = True,
) -> Decision:
    """Make the sequential decision: beyond Wald's bounds ACCEPTED or REJECTED, else INCONCLUSIVE.

    The upper bound is never below `least`. Without `rejects` the lower bound is not used.
    """
    targets = f"{test.false_match_rate:.3g} / {test.false_non_match_rate:.3g}"
    accept, reject = (
        Threshold(llr, ThresholdSource.REQUEST, f"sequential test at error rates {targets}")
        for llr in (test.accept_llr, test.reject_llr)
    )
    accept = accept if least is None else raise_to_least(accept, least)
    if score.llr >= accept.llr:
        return decide(score, accept, quality, model_id)
    if rejects and score.llr <= reject.llr:
        return replace(
            decide(score, accept, quality, model_id),
            outcome=Outcome.REJECTED,
            threshold=reject,
            explanation=(
                f"the log-likelihood ratio is at or below the lower bound from {reject.description}"
            ),
        )
    return Decision(
        outcome=Outcome.INCONCLUSIVE,
        model_id=model_id,
        explanation=explain((Reason.UNDECIDED,), 0.0),
        reasons=(Reason.UNDECIDED,),
        score=score,
        threshold=accept,
        quality=quality,
        speech_needed_s=max(0.0, test.max_speech_s - quality.net_speech_s),
    )


def reject_changed_voice(
    score: Score, threshold: Threshold, quality: Quality, model_id: str
) -> Decision:
    """Make the decision on a call whose accepted speaker was followed by another one."""
    reasons = (Reason.VOICE_CHANGED,)
    return Decision(
        Outcome.REJECTED,
        model_id,
        explain(reasons, 0.0),
        reasons=reasons,
        score=score,
        threshold=threshold,
        quality=quality,
    )


def decide_unclaimed(quality: Quality, gate: QualityGate, model_id: str) -> Decision:
    """Make the decision on speech that nobody is claimed for, which is always INCONCLUSIVE."""
    reasons = (Reason.NO_CLAIM, *list_shortcomings(quality, gate))
    return decide_inconclusive(reasons, quality, gate, model_id)


def decide_inconclusive(
    reasons: tuple[Reason, ...], quality: Quality, gate: QualityGate, model_id: str
) -> Decision:
    """Make an INCONCLUSIVE decision that says what would allow a conclusive one."""
    needed_s = max(0.0, gate.min_speech_s - quality.net_speech_s)
    return Decision(
        outcome=Outcome.INCONCLUSIVE,
        model_id=model_id,
        explanation=explain(reasons, needed_s, quality, gate),
        reasons=reasons,
        quality=quality,
        speech_needed_s=needed_s,
    )


def explain(
    reasons: tuple[Reason, ...],
    needed_s: float,
    quality: Quality = NOTHING_HEARD,
    gate: QualityGate = NO_GATE,
) -> str:
    """Say in one sentence why audio was not enough: what was measured, and the limit."""
    clauses = {
        Reason.NO_SPEECH: _explain_no_speech(quality, needed_s),
        Reason.NOT_ENOUGH_SPEECH: (
            f"{needed_s:.1f} s more of net speech are needed; {quality.net_speech_s:.1f} s were "
            f"heard in {quality.total_s:.1f} s of audio"
        ),
        Reason.TOO_NOISY: (
            f"the signal-to-noise ratio is {quality.snr_db or 0.0:.1f} dB, below the limit of "
            f"{gate.min_snr_db:.1f} dB"
        ),
        Reason.UNDECIDED: "the evidence so far is between the bounds; more speech will decide",
        Reason.VOICE_CHANGED: "the voice changed during the call",
        Reason.VOICE_MISMATCH: "it does not match the voice enrolled so far",
        Reason.MULTIPLE_VOICES: "the recording does not sound like one person",
        Reason.ALREADY_ENROLLED: "the voice is already enrolled under another speaker",
        Reason.WATCHLISTED: "the voice matches a watchlist",
        Reason.NO_CLAIM: "no speaker is claimed",
        Reason.CLIPPED: (
            f"{quality.clipping:.1%} of the samples of speech are at full scale, over the limit of "
            f"{gate.max_clipping:.1%}; lower the input level"
        ),
        Reason.IMPLAUSIBLE_AUDIO: (
            f"the audio is not what the request says it is: {quality.suspicions.implausible}"
        ),
    }
    return "; ".join(clauses[reason] for reason in reasons)


def _explain_no_speech(quality: Quality, needed_s: float) -> str:
    """Say what is likely to be wrong, by what was measured."""
    nothing = (
        f"no speech was heard in {quality.total_s:.1f} s of audio, {needed_s:.1f} s are needed"
    )
    peak = f"its highest sample is at {quality.peak_dbfs:.0f} dBFS"
    other = quality.suspicions.louder_channel
    if other is not None:
        return f"{nothing}; channel {other} is far louder, so that the speaker is probably there"
    if quality.peak_dbfs <= _SILENT_DBFS:
        return f"{nothing}; it is silence ({peak})"
    if quality.peak_dbfs < _QUIET_DBFS:
        return f"{nothing}; it is too quiet ({peak}, below {_QUIET_DBFS:.0f} dBFS); raise the level"
    return f"{nothing}; {peak}: if someone speaks, check its encoding, sample rate and channel"
