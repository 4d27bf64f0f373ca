"""What a request asks of its decision, laid over what the server asks of the model."""

from dataclasses import dataclass, replace

from service.decisions.decision import Costs, Policy, QualityGate, SequentialTest


@dataclass(frozen=True, slots=True)
class PolicyDefaults:
    """What a request's policy leaves out. `sequential` is what one that asks for a sequential test
    leaves out of it, `floor_s` the net speech that the model needs at least."""

    policy: Policy
    sequential: SequentialTest
    floor_s: float


@dataclass(frozen=True, slots=True)
class RequestedTest:
    """A sequential test as a request asks for it; 0 leaves a value to the server."""

    false_match_rate: float = 0.0
    false_non_match_rate: float = 0.0
    max_speech_s: float = 0.0

    def over(self, default: SequentialTest, *, looser: bool) -> SequentialTest:
        """The test that is used. Unless it may be `looser` it is at least as strict as the
        default: either bound tells on which side of it the score is, and both follow from both
        rates."""
        test = SequentialTest(
            self.false_match_rate or default.false_match_rate,
            self.false_non_match_rate or default.false_non_match_rate,
            self.max_speech_s or default.max_speech_s,
        )
        if looser:
            return test
        return replace(
            test,
            false_match_rate=min(test.false_match_rate, default.false_match_rate),
            false_non_match_rate=default.false_non_match_rate,
        )


@dataclass(frozen=True, slots=True)
class RequestedPolicy:
    """A request's policy; None leaves a value to the server.

    Unless it may be `looser`, its threshold and what it demands of the audio are at least the
    server's: outcomes under many thresholds would reveal the score, and worse audio makes it less
    certain.
    """

    criterion: float | Costs | None = None
    min_speech_s: float | None = None
    min_snr_db: float | None = None
    sequential: RequestedTest | None = None
    looser: bool = False

    def over(self, defaults: PolicyDefaults) -> Policy:
        """The policy for one model; raises `InvalidArgument` for a value that is out of range."""
        server, requested = defaults.policy, self.criterion is not None
        test = self.sequential
        return Policy(
            server.criterion if self.criterion is None else self.criterion,
            "request" if requested else server.origin,
            self._gate(server.gate, defaults.floor_s),
            None if test is None else test.over(defaults.sequential, looser=self.looser),
            at_least=None if self.looser else server,
        )

    def _gate(self, server: QualityGate, floor_s: float) -> QualityGate:
        gate = QualityGate(
            server.min_speech_s if self.min_speech_s is None else self.min_speech_s,
            server.min_snr_db if self.min_snr_db is None else self.min_snr_db,
            server.max_clipping,
        )
        if gate.min_speech_s < floor_s:
            gate = replace(gate, min_speech_s=floor_s)
        return gate if self.looser else gate.at_least(server)


AS_SERVER = RequestedPolicy()
"""A request that leaves everything to the server."""
