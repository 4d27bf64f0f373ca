"""Verification: what one model makes of a claimed speaker, and of two embeddings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.contract import Calibration, Contract
from service.decisions.decision import Decision, Outcome, Score, decide_unclaimed
from service.decisions.policy import Policy, make_server_policy
from service.decisions.scoring import Scorer, average_voice, cosine, l2_normalize
from service.decisions.thresholds import (
    ONE_VOICE,
    ClaimSize,
    Threshold,
    choose_claim_threshold,
    choose_server_claim_threshold,
)
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
    """Scores embeddings of one model, and chooses thresholds by its calibration; `policy` is the
    server's own for that model, by default the contract's."""

    def __init__(
        self,
        contract: Contract,
        retention: Retention = FOR_EVER,
        policy: Policy | None = None,
    ) -> None:
        self.scorer = Scorer(contract)
        self._contract = contract
        self._retention = retention
        self.policy = policy or make_server_policy(contract)

    @property
    def model_id(self) -> str:
        return self._contract.model_id

    def choose_threshold(self, policy: Policy, claim: ClaimSize = ONE_VOICE) -> Threshold:
        """Return what a policy asks of a claim; raises `FailedPrecondition` if the model has no
        calibration."""
        return choose_claim_threshold(claim, policy, self._require_calibration())

    def choose_server_threshold(self, claim: ClaimSize = ONE_VOICE) -> Threshold:
        """As `choose_threshold` by the server's own policy, which decides about all consequences of
        a call."""
        calibration = self._require_calibration()
        return choose_server_claim_threshold(claim, self.policy, calibration)

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

    def decide_unclaimed(self, utterance: Utterance, policy: Policy) -> Decision:
        """Make the decision on an utterance that nobody is claimed for."""
        return decide_unclaimed(utterance.quality, policy.gate, self._contract.model_id)

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
