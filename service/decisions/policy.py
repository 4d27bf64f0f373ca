"""Policy: how to decide, as the server asks of a model and as a request may ask on top of that."""

import enum
import math
from dataclasses import asdict, dataclass, replace
from typing import Self

from service.contract import Contract
from service.errors import InvalidArgument
from service.settings import DEFAULT_FALSE_MATCH_RATE, DecisionRules


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
    """What audio must offer for a decision: at least this much net speech in seconds and this
    signal-to-noise ratio in decibels, at most this share of clipped speech samples."""

    min_speech_s: float
    min_snr_db: float
    max_clipping: float

    def __post_init__(self) -> None:
        if not 0 <= self.min_speech_s <= 60:
            raise InvalidArgument("must be 0 to 60 seconds", field="policy.min_net_speech_s")
        if math.isnan(self.min_snr_db):
            raise InvalidArgument("must be a number of decibels", field="policy.min_snr_db")

    @classmethod
    def from_rules(cls, rules: DecisionRules) -> Self:
        """Return the gate that the operator sets."""
        return cls(rules.min_speech_s, rules.min_snr_db, rules.max_clipping)

    def require_speech(self, min_speech_s: float) -> "QualityGate":
        """Return a gate that asks for at least `min_speech_s` seconds of net speech."""
        if self.min_speech_s >= min_speech_s:
            return self
        return replace(self, min_speech_s=min_speech_s)

    def tighten(self, other: "QualityGate") -> "QualityGate":
        """Return the stricter of both gates in each respect."""
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


class ThresholdSource(enum.Enum):
    """Whose rule a threshold follows; the value is how sentences name it."""

    MODEL = "model"
    SERVER = "setting"
    REQUEST = "request"
    SERVER_MINIMUM = "the server's own"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Policy:
    """How to decide. `criterion` is a target false-match rate or costs, and `source` says whose.
    `sequential` lets a stream decide early. The threshold is never below that of the policy
    `at_least`."""

    criterion: float | Costs
    source: ThresholdSource
    gate: QualityGate
    sequential: SequentialTest | None = None
    at_least: "Policy | None" = None

    def __post_init__(self) -> None:
        if isinstance(self.criterion, float) and not 0 < self.criterion < 1:
            raise InvalidArgument(
                "must be above 0 and below 1", field="policy.target_false_match_rate"
            )


def make_server_policy(contract: Contract, rules: DecisionRules | None = None) -> Policy:
    """Return the policy that the server itself applies to a model's decisions: the operator's
    `rules`, with the model's own false-match rate if they set none. A request's policy changes what
    the caller is told, never this."""
    gate = QualityGate.from_rules(rules) if rules else NO_GATE
    gate = gate.require_speech(contract.min_speech_s)
    if rules is not None and rules.target_false_match_rate is not None:
        return Policy(rules.target_false_match_rate, ThresholdSource.SERVER, gate)
    if contract.operating_point is not None:
        rate = contract.operating_point.target_false_match_rate
        return Policy(rate, ThresholdSource.MODEL, gate)
    return Policy(DEFAULT_FALSE_MATCH_RATE, ThresholdSource.SERVER, gate)


@dataclass(frozen=True, slots=True)
class PolicyDefaults:
    """The values for what a request's policy leaves out; `sequential` is for a request that asks
    for a sequential test. The model needs at least `floor_s` seconds of net speech."""

    policy: Policy
    sequential: SequentialTest
    floor_s: float


@dataclass(frozen=True, slots=True)
class RequestedTest:
    """A sequential test as a request asks for it; None leaves a value to the server."""

    false_match_rate: float | None = None
    false_non_match_rate: float | None = None
    max_speech_s: float | None = None

    def fill_in(self, default: SequentialTest, *, looser: bool) -> SequentialTest:
        """Return the test to use. Unless it may be `looser`, it is at least as strict as the
        default: each bound tells the caller on which side of it the score is, and both bounds
        follow from both rates."""
        requested = {name: value for name, value in asdict(self).items() if value is not None}
        test = replace(default, **requested)
        if looser:
            return test
        return replace(
            test,
            false_match_rate=min(test.false_match_rate, default.false_match_rate),
            false_non_match_rate=default.false_non_match_rate,
        )


@dataclass(frozen=True, slots=True)
class RequestedPolicy:
    """A request's policy; None leaves a value to the named policy's `rules`, if any, and to the
    server.

    Unless it may be `looser`, its threshold and its gate are at least the server's: outcomes under
    many thresholds would reveal the score, and worse audio makes it less certain.
    """

    criterion: float | Costs | None = None
    min_speech_s: float | None = None
    min_snr_db: float | None = None
    sequential: RequestedTest | None = None
    looser: bool = False
    rules: "RequestedPolicy | None" = None

    def fill_in(
        self, defaults: PolicyDefaults, *, source: ThresholdSource = ThresholdSource.REQUEST
    ) -> Policy:
        """Return the policy for one model; raises `InvalidArgument` for a value out of range."""
        base, default_test = defaults.policy, defaults.sequential
        if self.rules is not None:
            base = self.rules.fill_in(defaults, source=ThresholdSource.POLICY)
            default_test = base.sequential or default_test
        test = base.sequential
        if self.sequential is not None:
            test = self.sequential.fill_in(default_test, looser=self.looser)
        return Policy(
            base.criterion if self.criterion is None else self.criterion,
            base.source if self.criterion is None else source,
            self._make_gate(base.gate, defaults.floor_s),
            test,
            at_least=None if self.looser else base,
        )

    def _make_gate(self, server: QualityGate, floor_s: float) -> QualityGate:
        gate = QualityGate(
            server.min_speech_s if self.min_speech_s is None else self.min_speech_s,
            server.min_snr_db if self.min_snr_db is None else self.min_snr_db,
            server.max_clipping,
        ).require_speech(floor_s)
        return gate if self.looser else gate.tighten(server)


AS_SERVER = RequestedPolicy()
"""A request that leaves everything to the server."""
