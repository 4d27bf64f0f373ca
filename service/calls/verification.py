"""Verification: an utterance against an enrolled voice, and embeddings against embeddings."""

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
    Policy,
    Score,
    SequentialTest,
    Threshold,
    band_of,
    decide,
    decide_early,
    inconclusive,
    server_policy,
    server_threshold,
    shortcomings,
    threshold_for,
    unclaimed,
    voice_changed,
)
from service.decisions.scoring import Scorer, cosine, l2_normalized, voice
from service.errors import FailedPrecondition, InvalidArgument
from service.inference.embedder import Utterance
from service.store import Speaker, SpeakerState, Voiceprint
from service.store.lifecycle import FOR_EVER, Retention

_UNIT_TOLERANCE = 1e-3


_REFUSALS: Mapping[SpeakerState, tuple[Outcome, str]] = {
    SpeakerState.OPTED_OUT: (Outcome.OPTED_OUT, "the speaker opted out"),
    SpeakerState.WITHOUT_CONSENT: (
        Outcome.OPTED_OUT,
        "the consent was withdrawn, or there is none; record one first",
    ),
    SpeakerState.EXPIRED: (Outcome.EXPIRED, "the voice was unused for too long; enrol again"),
    SpeakerState.PENDING: (
        Outcome.NOT_ENROLLED,
        "the enrolment is not complete; enrol more speech",
    ),
    SpeakerState.UNCONFIRMED: (
        Outcome.NOT_ENROLLED,
        "the enrolment waits for an operator's confirmation",
    ),
}


@dataclass(frozen=True, slots=True)
class Known:
    """An embedding `(dim,)` from outside with what is known of it; None where it is not."""

    embedding: NDArray[np.float32]
    speech_s: float | None
    snr_db: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    cosine: float
    llr: float | None


class Verifier:
    """Scores in the space of one model and decides by its calibration; `policy` is the server's own
    for it, by default the contract's."""

    def __init__(
        self,
        contract: Contract,
        retention: Retention = FOR_EVER,
        policy: Policy | None = None,
    ) -> None:
        self.scorer = Scorer(contract)
        self._contract = contract
        self._retention = retention
        self._policy = policy or server_policy(contract)

    @cached_property
    def server_threshold(self) -> Threshold:
        """What the server itself asks of this model, which decides about all consequences of a
        call; raises `FailedPrecondition` when the model has no calibration."""
        return server_threshold(self._policy, self._calibration())

    def claimed(self, speaker: Speaker | None) -> Voiceprint | Decision:
        """The voiceprint to compare with, or the decision that needs no audio."""
        if speaker is None:
            return self._refused(Outcome.NOT_ENROLLED, "no such speaker; enrol first")
        if refusal := _REFUSALS.get(self._retention.state(speaker)):
            return self._refused(*refusal)
        held = speaker.voiceprints.get(self._contract.model_id)
        if held is None:
            return self._refused(
                Outcome.NOT_ENROLLED, "enrolled with another model only; enrol with this one"
            )
        return held

    def verify(self, held: Voiceprint, utterance: Utterance, policy: Policy) -> Decision:
        """The fixed decision on one utterance against a voiceprint.

        Raises `FailedPrecondition` when the model has no calibration.
        """
        return self._decided(held, utterance, policy, None)

    def judge(self, held: Voiceprint, utterance: Utterance) -> Decision:
        """The server's own decision on all the speech, for the consequences of a call."""
        quality, model_id = utterance.quality, self._contract.model_id
        if reasons := shortcomings(quality, self._policy.demands):
            return inconclusive(reasons, quality, self._policy.demands, model_id)
        score = self._score(held, utterance)
        return decide(score, self.server_threshold, quality, model_id)

    def so_far(self, held: Voiceprint, utterance: Utterance, policy: Policy) -> Decision:
        """As `verify` while more speech may come: sequential where the policy says so."""
        test = policy.sequential
        ended = test is not None and utterance.quality.net_speech_s >= test.max_speech_s
        return self._decided(held, utterance, policy, None if ended else test)

    def unclaimed(self, utterance: Utterance, policy: Policy) -> Decision:
        """On an utterance that is claimed to be nobody's."""
        return unclaimed(utterance.quality, policy.demands, self._contract.model_id)

    def changed(
        self, held: Voiceprint, now: Known, quality: Quality, policy: Policy
    ) -> Decision | None:
        """REJECTED when the voice heard `now` is not the one enrolled, else None."""
        test = policy.sequential
        score = self.score(held, now)
        threshold = threshold_for(policy, self._calibration())
        if test is not None:
            threshold = Threshold(test.reject_llr, "sequential test, lower bound")
        if score.llr >= threshold.llr:
            return None
        changed = voice_changed(score, threshold, quality, self._contract.model_id)
        failed = score.llr < self.server_threshold.llr
        return replace(
            changed,
            meets_server_policy=False if failed else None,
            band=band_of(score, self.server_threshold),
        )

    def _decided(
        self,
        held: Voiceprint,
        utterance: Utterance,
        policy: Policy,
        test: SequentialTest | None,
    ) -> Decision:
        threshold = threshold_for(policy, self._calibration())
        if reasons := shortcomings(utterance.quality, policy.demands):
            return inconclusive(reasons, utterance.quality, policy.demands, self._contract.model_id)
        quality, model_id = utterance.quality, self._contract.model_id
        score = self._score(held, utterance)
        if test is not None:
            least = self.server_threshold if policy.at_least else None
            decision = decide_early(score, test, quality, model_id, least=least)
        else:
            decision = decide(score, threshold, quality, model_id)
        return replace(
            decision,
            meets_server_policy=self._meets(score, quality),
            band=band_of(score, self.server_threshold),
        )

    def _score(self, held: Voiceprint, utterance: Utterance) -> Score:
        assert utterance.embedding is not None, "the policy demands what the model needs"
        quality = utterance.quality
        return self.score(held, Known(utterance.embedding, quality.net_speech_s, quality.snr_db))

    def _meets(self, score: Score, quality: Quality) -> bool | None:
        if score.llr < self.server_threshold.llr:
            return False
        return None if shortcomings(quality, self._policy.demands) else True

    def compare(self, left: Known, right: Known) -> Comparison:
        """Two embeddings; the ratio needs a calibration and the net speech of both sides."""
        similarity = cosine(left.embedding, right.embedding)
        if self._contract.calibration is None or left.speech_s is None or right.speech_s is None:
            return Comparison(similarity, None)
        ratio = self.scorer.log_ratio(
            left.embedding,
            right.embedding,
            enrol_speech_s=left.speech_s,
            test_speech_s=right.speech_s,
            snr_db=right.snr_db,
        )
        return Comparison(similarity, ratio)

    def compare_all(self, left: Sequence[Known], right: Sequence[Known]) -> list[Comparison]:
        """Each of `left` with each of `right`, row by row; blocks for as long as that takes."""
        rows, columns = (np.stack([each.embedding for each in side]) for side in (left, right))
        cosines = np.clip(rows @ columns.T, -1.0, 1.0)  # (left, right)
        if self._contract.calibration is None:
            return [Comparison(float(each), None) for each in cosines.flat]
        scores = self.scorer.normalised(cosines, rows, columns)
        return [
            Comparison(float(cosines[i, j]), self._ratio(float(scores[i, j]), one, other))
            for i, one in enumerate(left)
            for j, other in enumerate(right)
        ]

    def _ratio(self, score: float, left: Known, right: Known) -> float | None:
        """The ratio needs the net speech of both sides."""
        if left.speech_s is None or right.speech_s is None:
            return None
        return self.scorer.ratio(score, left.speech_s, right.speech_s, right.snr_db)

    def known(
        self,
        values: Iterable[float],
        *,
        model_id: str,
        speech_s: float | None,
        snr_db: float | None,
        field: str,
    ) -> Known:
        """An embedding from outside; raises `InvalidArgument` unless it is a unit vector of this
        model."""
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
            raise InvalidArgument("is not L2-normalised", field=f"{field}.values")
        return Known(l2_normalized(embedding), speech_s, snr_db)

    def score(self, held: Voiceprint, heard: Known) -> Score:
        """An embedding with known net speech against a voiceprint; needs a calibration."""
        enrolled = Known(voice(held.vectors, held.speech_s), float(held.speech_s.sum()), None)
        compared = self.compare(enrolled, heard)
        assert compared.llr is not None, "there is a calibration and net speech on both sides"
        return Score(compared.cosine, compared.llr)

    def _calibration(self) -> Calibration:
        if self._contract.calibration is None:
            raise FailedPrecondition(
                "the model has no calibration, so no decision can be made; run "
                "`sayso-export calibrate` on it and restart the server"
            )
        return self._contract.calibration

    def _refused(self, outcome: Outcome, explanation: str) -> Decision:
        return Decision(outcome, self._contract.model_id, explanation)
