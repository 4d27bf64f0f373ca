"""Decisions: from a log-likelihood ratio and a policy to a typed outcome; pure functions."""

import enum
import itertools
import math
from dataclasses import dataclass, replace

from service.audio.quality import Quality
from service.contract import Calibration, Contract
from service.errors import InvalidArgument
from service.settings import DEFAULT_FALSE_MATCH_RATE

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
    """A score in words, by the server's own threshold. None lies below it, so that no answer says
    whether a guess came nearer."""

    WEAK = enum.auto()
    MODERATE = enum.auto()
    STRONG = enum.auto()


STRONG_MARGIN_LLR = 3.0
"""How far above the server's threshold a score is STRONG."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Prior probability of a genuine caller and the costs of the two errors, in one unit."""

    target_prior: float
    miss_cost: float
    false_accept_cost: float

    def __post_init__(self) -> None:
        if not 0 < self.target_prior < 1:
            raise InvalidArgument("must be above 0 and below 1", field="policy.costs.target_prior")
        for name in ("miss_cost", "false_accept_cost"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidArgument("must be above 0", field=f"policy.costs.{name}")


@dataclass(frozen=True, slots=True)
class QualityGate:
    """What audio must offer: net speech in seconds, signal-to-noise ratio in decibels, and at
    most this share of clipped speech samples."""

    min_speech_s: float
    min_snr_db: float
    max_clipping: float

    def __post_init__(self) -> None:
        if not 0 <= self.min_speech_s <= 60:
            raise InvalidArgument("must be 0 to 60 seconds", field="policy.min_net_speech_s")
        if math.isnan(self.min_snr_db):
            raise InvalidArgument("must be a number of decibels", field="policy.min_snr_db")

    def at_least(self, other: "QualityGate") -> "QualityGate":
        """The stricter of both in each respect."""
        return QualityGate(
            max(self.min_speech_s, other.min_speech_s),
            max(self.min_snr_db, other.min_snr_db),
            min(self.max_clipping, other.max_clipping),
        )


NO_GATE = QualityGate(min_speech_s=0, min_snr_db=-math.inf, max_clipping=1)


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """Wald's sequential probability ratio test (Wald 1945) on the log-likelihood ratio of all
    speech so far: decide as soon as it leaves the open interval between two bounds.

    `max_speech_s` of net speech end it with the fixed decision.
    """

    false_match_rate: float
    false_non_match_rate: float
    max_speech_s: float

    def __post_init__(self) -> None:
        for name in ("false_match_rate", "false_non_match_rate"):
            if not 0 < getattr(self, name) < 0.5:
                raise InvalidArgument(
                    "must be above 0 and below 0.5", field=f"policy.sequential.{name}"
                )
        if not 0 < self.max_speech_s < math.inf:
            raise InvalidArgument("must be above 0", field="policy.sequential.max_net_speech_s")

    @property
    def accept_llr(self) -> float:
        """Wald's upper bound: log of (1 - false-non-match rate) / false-match rate."""
        return math.log((1 - self.false_non_match_rate) / self.false_match_rate)

    @property
    def reject_llr(self) -> float:
        """Wald's lower bound: log of false-non-match rate / (1 - false-match rate)."""
        return math.log(self.false_non_match_rate / (1 - self.false_match_rate))


@dataclass(frozen=True, slots=True)
class Policy:
    """How to decide. `criterion` is a target false-match rate or costs; `origin` says who chose
    it and ends up in the threshold's source. `sequential` lets a stream decide early. The threshold
    is never below that of the policy `at_least`."""

    criterion: float | Costs
    origin: str
    gate: QualityGate
    sequential: SequentialTest | None = None
    at_least: "Policy | None" = None

    def __post_init__(self) -> None:
        if isinstance(self.criterion, float) and not 0 < self.criterion < 1:
            raise InvalidArgument(
                "must be above 0 and below 1", field="policy.target_false_match_rate"
            )


@dataclass(frozen=True, slots=True)
class Threshold:
    """A natural-log likelihood ratio to reach, and where it came from."""

    llr: float
    source: str


@dataclass(frozen=True, slots=True)
class Score:
    """A comparison in the space of one model: cosine and calibrated natural-log ratio."""

    cosine: float
    llr: float


@dataclass(frozen=True, slots=True)
class Decision:
    """An outcome with everything needed to explain it; a score never travels alone.

    `meets_server_policy` decides about consequences, whatever the request asked: True if the server
    itself would accept the speech, False if its ratio is below the server's threshold, None if
    nothing was compared or the audio is worse than the server demands. `band` is None if nothing
    was compared.
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

    @property
    def conclusive(self) -> bool:
        return self.outcome in (Outcome.ACCEPTED, Outcome.REJECTED)


def server_policy(
    contract: Contract, *, gate: QualityGate | None = None, target: float | None = None
) -> Policy:
    """What the server itself asks of a model's decisions: the operator's `target` false-match rate
    over the model's own. A request's policy changes what is told, never this."""
    gate = gate or QualityGate(0.0, -math.inf, 1.0)
    if gate.min_speech_s < contract.min_speech_s:
        gate = replace(gate, min_speech_s=contract.min_speech_s)
    if target is not None:
        return Policy(target, "setting", gate)
    if contract.operating_point is not None:
        return Policy(contract.operating_point.target_false_match_rate, "model", gate)
    return Policy(DEFAULT_FALSE_MATCH_RATE, "default", gate)


def threshold_for(policy: Policy, calibration: Calibration) -> Threshold:
    """The threshold that a policy asks for. Below the lowest measured rate it is an upper bound,
    and its source says so; raises `InvalidArgument` above the highest, or where none was measured.
    """
    asked = _threshold(policy, calibration)
    if policy.at_least is None:
        return asked
    return higher(asked, server_threshold(policy.at_least, calibration))


def higher(asked: Threshold, least: Threshold) -> Threshold:
    """The threshold that a request asks for, unless it is below the server's own."""
    if asked.llr >= least.llr:
        return asked
    why = "the request's is lower, which needs the role analyze"
    return Threshold(least.llr, f"{least.source}; {why}")


def _threshold(policy: Policy, calibration: Calibration) -> Threshold:
    if isinstance(policy.criterion, Costs):
        return Threshold(bayes_threshold(policy.criterion), f"prior and costs ({policy.origin})")
    points = calibration.false_match
    below = bool(points) and policy.criterion < points[-1][0]
    llr = (careful_threshold if below else false_match_threshold)(calibration, policy.criterion)
    return Threshold(llr, _source(policy.criterion, policy.origin, calibration))


def _source(rate: float, origin: str, calibration: Calibration) -> str:
    source = f"target false-match rate {rate:.3g} ({origin})"
    points = calibration.false_match
    if points and rate >= points[-1][0]:
        return source
    lowest = f"below the lowest measured, {points[-1][0]:.3g}" if points else "none was measured"
    return f"{source}: {lowest}, so by an upper bound, log(1/rate)"


def server_threshold(policy: Policy, calibration: Calibration) -> Threshold:
    """As `threshold_for` of the server's own policy; a rate beyond what was measured is taken
    carefully, so that there always is a threshold for the consequences."""
    if isinstance(policy.criterion, Costs):
        return threshold_for(policy, calibration)
    llr = careful_threshold(calibration, policy.criterion)
    return Threshold(llr, _source(policy.criterion, policy.origin, calibration))


def band_of(score: Score, server: Threshold) -> Band:
    """The words for a score, by the server's own threshold."""
    if score.llr < server.llr:
        return Band.WEAK
    strong = score.llr >= server.llr + STRONG_MARGIN_LLR
    return Band.STRONG if strong else Band.MODERATE


def bayes_threshold(costs: Costs) -> float:
    """The log-likelihood ratio above which accepting costs less than rejecting (Duda and Hart)."""
    odds = costs.target_prior / (1 - costs.target_prior)
    return math.log(costs.false_accept_cost) - math.log(costs.miss_cost) - math.log(odds)


def false_match_threshold(calibration: Calibration, rate: float) -> float:
    """The threshold that `rate` of the calibration's non-target trials reached, interpolated
    between measured points on a logarithmic rate axis."""
    points = calibration.false_match
    if not points or not points[-1][0] <= rate <= points[0][0]:
        span = f"from {points[-1][0]:.3g} to {points[0][0]:.3g}" if points else "not at all"
        raise InvalidArgument(
            f"the model's false-match rates were measured {span}; choose one, or give costs",
            field="policy.target_false_match_rate",
        )
    for (upper, low_llr), (lower, high_llr) in itertools.pairwise(points):
        if lower <= rate <= upper:
            share = math.log(upper / rate) / math.log(upper / lower)
            return low_llr + share * (high_llr - low_llr)
    return points[0][1]


def careful_threshold(calibration: Calibration, rate: float) -> float:
    """A threshold that at most `rate` of non-target trials reach, whatever was measured.

    Between measured rates it is interpolated, above the highest it is that one's. Below the lowest,
    or where there are none, it is log(1/rate): over non-target trials the mean of a calibrated
    likelihood ratio is 1, so that at most `rate` of them reach 1/rate (Markov's inequality). As far
    as the lowest measured rate needed more than that, the calibration is overconfident, and rarer
    rates need as much more.
    """
    points = calibration.false_match
    if points and rate >= points[-1][0]:
        return false_match_threshold(calibration, min(rate, points[0][0]))
    excess = points[-1][1] + math.log(points[-1][0]) if points else 0.0
    return -math.log(rate) + max(0.0, excess)


def shortcomings(quality: Quality, gate: QualityGate) -> tuple[Reason, ...]:
    """Why audio of this quality allows no decision; empty when it does."""
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
    """The fixed decision: accept when the log-likelihood ratio reaches the threshold."""
    accepted = score.llr >= threshold.llr
    return Decision(
        outcome=Outcome.ACCEPTED if accepted else Outcome.REJECTED,
        model_id=model_id,
        explanation=(
            f"the log-likelihood ratio is {'at or above' if accepted else 'below'} the threshold "
            f"from {threshold.source}"
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
    """The sequential decision: ACCEPTED or REJECTED beyond Wald's bounds, UNDECIDED between.

    The upper bound is never below `least`. Unless the test `rejects`, the lower one is not used.
    """
    targets = f"{test.false_match_rate:.3g} / {test.false_non_match_rate:.3g}"
    accept, reject = (
        Threshold(llr, f"sequential test at error rates {targets}")
        for llr in (test.accept_llr, test.reject_llr)
    )
    accept = accept if least is None else higher(accept, least)
    if score.llr >= accept.llr:
        return decide(score, accept, quality, model_id)
    if rejects and score.llr <= reject.llr:
        return replace(
            decide(score, accept, quality, model_id),
            outcome=Outcome.REJECTED,
            threshold=reject,
            explanation=(
                f"the log-likelihood ratio is at or below the lower bound from {reject.source}"
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


def voice_changed(score: Score, threshold: Threshold, quality: Quality, model_id: str) -> Decision:
    """The voice was accepted earlier in the call, and who speaks now is not it."""
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


def unclaimed(quality: Quality, gate: QualityGate, model_id: str) -> Decision:
    """On a voice that is claimed to be nobody's: never more than INCONCLUSIVE."""
    reasons = (Reason.NO_CLAIM, *shortcomings(quality, gate))
    return inconclusive(reasons, quality, gate, model_id)


def inconclusive(
    reasons: tuple[Reason, ...], quality: Quality, gate: QualityGate, model_id: str
) -> Decision:
    """No decision, and what would allow one."""
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
    """One sentence for people on why audio was not enough: what was measured, and the limit."""
    clauses = {
        Reason.NO_SPEECH: _no_speech(quality, needed_s),
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


def _no_speech(quality: Quality, needed_s: float) -> str:
    """What is likely to be wrong, by what was measured."""
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
