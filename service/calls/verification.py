"""Verification: compare an utterance with an enrolled voice, or embeddings with embeddings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from service.audio.quality import Quality
from service.contract import Calibration, Contract
from service.decisions.decision import (
    Decision,
    Outcome,
    Score,
    choose_band,
    decide,
    decide_early,
    decide_inconclusive,
    decide_unclaimed,
    list_shortcomings,
    reject_changed_voice,
)
from service.decisions.policy import (
    Policy,
    SequentialTest,
    ThresholdSource,
    make_server_policy,
)
from service.decisions.scoring import Scorer, average_voice, cosine, l2_normalize
from service.decisions.thresholds import Threshold, choose_server_threshold, choose_threshold
from service.errors import ErrorReason, FailedPrecondition, InvalidArgument
from service.inference.embedder import Utterance
from service.speakers.lifecycle import FOR_EVER, Retention
from service.store import Speaker, SpeakerState, Voiceprint

_UNIT_TOLERANCE = 1e-3


_REFUSALS: Mapping[SpeakerState, tuple[Outcome, str]] = {
    SpeakerState.OPTED_OUT: (Outcome.OPTED_OUT, "the speaker opted out"),
    SpeakerState.WITHOUT_CONSENT: (
        Outcome.OPTED_OUT,
        "the consent was withdrawn, or there is none; record one first",
    ),
    SpeakerState.EXPIRED: (Outcome.EXPIRED, "the voice was unused for too long; enroll again"),
    SpeakerState.PENDING: (
        Outcome.NOT_ENROLLED,
        "the enrollment is not complete; enroll more speech",
    ),
    SpeakerState.UNCONFIRMED: (
        Outcome.NOT_ENROLLED,
        "the enrollment waits for an operator's confirmation",
    ),
}


@dataclass(frozen=True, slots=True)
class ProbeEmbedding:
    """An embedding `(dim,)` to compare, with its net speech in seconds and its signal-to-noise
    ratio in decibels if they are known."""

    embedding: NDArray[np.float32]
    speech_s: float | None
    snr_db: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    cosine: float
    llr: float | None


class Verifier:
    """Scores embeddings of one model and decides by its calibration; `policy` is the server's own
    for that model, by default the contract's."""

    def __init__(
        self,
        contract: Contract,
        retention: Retention = FOR_EVER,
        policy: Policy | None = None,
    ) -> None:
        self.scorer = Scorer(contract)
        self._contract = contract
        self._retention = retention
        self._policy = policy or make_server_policy(contract)

    @cached_property
    def server_threshold(self) -> Threshold:
        """The threshold of the server's own policy, which decides about all consequences of a call;
        raises `FailedPrecondition` if the model has no calibration."""
        return choose_server_threshold(self._policy, self._require_calibration())

    def resolve_claim(self, speaker: Speaker | None) -> Voiceprint | Decision:
        """Return the voiceprint to compare with, or a decision that needs no audio."""
        if speaker is None:
            return self._refuse(Outcome.NOT_ENROLLED, "no such speaker; enroll first")
        if refusal := _REFUSALS.get(self._retention.state(speaker)):
            return self._refuse(*refusal)
        voiceprint = speaker.voiceprints.get(self._contract.model_id)
        if voiceprint is None:
            return self._refuse(
                Outcome.NOT_ENROLLED, "enrolled with another model only; enroll with this one"
            )
        return voiceprint

    def verify(self, claim: Voiceprint, utterance: Utterance, policy: Policy) -> Decision:
        """Make the fixed decision on an utterance against a voiceprint.

        Raises `FailedPrecondition` if the model has no calibration.
        """
        return self._decide(claim, utterance, policy, None)

    def accept(self, decision: Decision) -> Decision:
        """Make the server's own decision from one that meets the server's policy."""
        assert decision.score is not None, "a decision that meets the policy has a score"
        score, model_id = decision.score, self._contract.model_id
        return decide(score, self.server_threshold, decision.quality, model_id)

    def verify_so_far(self, claim: Voiceprint, utterance: Utterance, policy: Policy) -> Decision:
        """As `verify` while more speech may come: sequential if the policy says so."""
        test = policy.sequential
        ended = test is not None and utterance.quality.net_speech_s >= test.max_speech_s
        return self._decide(claim, utterance, policy, None if ended else test)

    def decide_unclaimed(self, utterance: Utterance, policy: Policy) -> Decision:
        """Make the decision on an utterance that nobody is claimed for."""
        return decide_unclaimed(utterance.quality, policy.gate, self._contract.model_id)

    def detect_change(
        self, claim: Voiceprint, latest: ProbeEmbedding, quality: Quality, policy: Policy
    ) -> Decision | None:
        """Return REJECTED if the `latest` speech is not of the enrolled voice, else None."""
        test = policy.sequential
        score = self.score(claim, latest)
        threshold = choose_threshold(policy, self._require_calibration())
        if test is not None:
            threshold = Threshold(
                test.reject_llr, ThresholdSource.REQUEST, "sequential test, lower bound"
            )
        if score.llr >= threshold.llr:
            return None
        changed = reject_changed_voice(score, threshold, quality, self._contract.model_id)
        failed = score.llr < self.server_threshold.llr
        return replace(
            changed,
            meets_server_policy=False if failed else None,
            band=choose_band(score, self.server_threshold),
        )

    def _decide(
        self,
        claim: Voiceprint,
        utterance: Utterance,
        policy: Policy,
        test: SequentialTest | None,
    ) -> Decision:
        threshold = choose_threshold(policy, self._require_calibration())
        if reasons := list_shortcomings(utterance.quality, policy.gate):
            return decide_inconclusive(
                reasons, utterance.quality, policy.gate, self._contract.model_id
            )
        quality, model_id = utterance.quality, self._contract.model_id
        score = self._score(claim, utterance)
        if test is not None:
            least = self.server_threshold if policy.at_least else None
            decision = decide_early(score, test, quality, model_id, least=least)
        else:
            decision = decide(score, threshold, quality, model_id)
        return replace(
            decision,
            meets_server_policy=self._meets_policy(score, quality),
            band=choose_band(score, self.server_threshold),
        )

    def _score(self, claim: Voiceprint, utterance: Utterance) -> Score:
        embedding, quality = utterance.embedding, utterance.quality
        assert embedding is not None, "the policy demands what the model needs"
        return self.score(claim, ProbeEmbedding(embedding, quality.net_speech_s, quality.snr_db))

    def _meets_policy(self, score: Score, quality: Quality) -> bool | None:
        if score.llr < self.server_threshold.llr:
            return False
        return None if list_shortcomings(quality, self._policy.gate) else True

    def compare(self, left: ProbeEmbedding, right: ProbeEmbedding) -> Comparison:
        """Compare two embeddings; the llr needs a calibration and the net speech of both sides."""
        similarity = cosine(left.embedding, right.embedding)
        if self._contract.calibration is None or left.speech_s is None or right.speech_s is None:
            return Comparison(similarity, None)
        llr = self.scorer.compare(
            left.embedding,
            right.embedding,
            enroll_speech_s=left.speech_s,
            test_speech_s=right.speech_s,
            snr_db=right.snr_db,
        )
        return Comparison(similarity, llr)

    def compare_all(
        self, left: Sequence[ProbeEmbedding], right: Sequence[ProbeEmbedding]
    ) -> list[Comparison]:
        """Compare each of `left` with each of `right`, row by row; blocks the calling thread."""
        rows, columns = (np.stack([probe.embedding for probe in side]) for side in (left, right))
        cosines = np.clip(rows @ columns.T, -1.0, 1.0)  # (left, right)
        if self._contract.calibration is None:
            return [Comparison(float(similarity), None) for similarity in cosines.flat]
        scores = self.scorer.normalize(cosines, rows, columns)
        return [
            Comparison(float(cosines[i, j]), self._compute_llr(float(scores[i, j]), first, second))
            for i, first in enumerate(left)
            for j, second in enumerate(right)
        ]

    def _compute_llr(
        self, score: float, left: ProbeEmbedding, right: ProbeEmbedding
    ) -> float | None:
        """Return the llr of a score, or None unless the net speech of both sides is known."""
        if left.speech_s is None or right.speech_s is None:
            return None
        return self.scorer.llr(score, left.speech_s, right.speech_s, right.snr_db)

    def parse_probe(
        self,
        values: Iterable[float],
        *,
        model_id: str,
        speech_s: float | None,
        snr_db: float | None,
        field: str,
    ) -> ProbeEmbedding:
        """Check an embedding that a caller sent; raises `InvalidArgument` unless it is a unit
        vector of this model."""
        if model_id != self._contract.model_id:
            raise InvalidArgument(
                f"embeddings of {model_id!r} cannot be compared here; this server runs "
                f"{self._contract.model_id!r}",
                field=f"{field}.model_id",
            )
        embedding = np.fromiter(values, np.float32)  # (dim,)
        if embedding.shape != (self._contract.dimension,):
            raise InvalidArgument(
                f"has {embedding.size} values, the model's embeddings have "
                f"{self._contract.dimension}",
                field=f"{field}.values",
            )
        if not abs(float(np.linalg.norm(embedding)) - 1) < _UNIT_TOLERANCE:
            raise InvalidArgument("is not L2-normalized", field=f"{field}.values")
        return ProbeEmbedding(l2_normalize(embedding), speech_s, snr_db)

    def score(self, claim: Voiceprint, probe: ProbeEmbedding) -> Score:
        """Score an embedding with known net speech against a voiceprint; needs a calibration."""
        vector = average_voice(claim.vectors, claim.speech_s)
        enrolled = ProbeEmbedding(vector, float(claim.speech_s.sum()), None)
        comparison = self.compare(enrolled, probe)
        assert comparison.llr is not None, "there is a calibration and net speech on both sides"
        return Score(comparison.cosine, comparison.llr)

    def _require_calibration(self) -> Calibration:
        if self._contract.calibration is None:
            raise FailedPrecondition(
                "the model has no calibration, so no decision can be made; run "
                "`sayso-export calibrate` on it and restart the server",
                reason=ErrorReason.MODEL_UNCALIBRATED,
            )
        return self._contract.calibration

    def _refuse(self, outcome: Outcome, explanation: str) -> Decision:
        return Decision(outcome, self._contract.model_id, explanation)
