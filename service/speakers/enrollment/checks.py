"""The checks that an utterance has to pass before it is enrolled.

A check that needs a calibrated log-likelihood ratio passes if the model has no calibration.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.audio.quality import Quality
from service.contract import Contract
from service.decisions.decision import Reason, list_shortcomings
from service.decisions.policy import QualityGate
from service.decisions.scoring import Scorer, average_voice
from service.errors import ErrorReason, FailedPrecondition
from service.inference.embedder import Utterance
from service.settings import EnrollmentRules
from service.speakers.enrollment.growth import Mismatch
from service.speakers.enrollment.request import EnrollmentRequest
from service.speakers.lifecycle import Retention
from service.speakers.voiceprints import Llr
from service.store import Speaker, SpeakerState, Voiceprint


class UtteranceChecks:
    """Checks utterances that are embedded with the models of `contracts`, the newest first."""

    def __init__(
        self, contracts: Sequence[Contract], *, gate: QualityGate, rules: EnrollmentRules
    ) -> None:
        scorers = {contract.model_id: Scorer(contract) for contract in contracts}
        self._contract = contracts[0]
        self._scorer = scorers[self._contract.model_id]
        self._llrs = {
            contract.model_id: _make_llr(scorers[contract.model_id])
            for contract in contracts
            if contract.calibration
        }
        self._gate = gate
        self._rules = rules

    @property
    def llr(self) -> Llr | None:
        """The llr of the newest model; None without a calibration."""
        return self._llrs.get(self._contract.model_id)

    def list_shortcomings(self, quality: Quality) -> tuple[Reason, ...]:
        """The reasons why the audio is not good enough."""
        return list_shortcomings(quality, self._gate)

    def is_good(self, utterance: Utterance) -> bool:
        """Whether the audio would be enrolled, whoever speaks."""
        return (
            utterance.embedding is not None
            and not self.list_shortcomings(utterance.quality)
            and self.is_one_voice(utterance)
        )

    def is_one_voice(self, utterance: Utterance) -> bool:
        """Whether the whole utterance sounds like one person."""
        if self._contract.calibration is None or utterance.embedding is None:
            return True
        embedding, scorer = utterance.embedding, self._scorer
        if utterance.parts is not None:
            speech_s = utterance.quality.net_speech_s
            if scorer.parts_llr(embedding, utterance.parts, speech_s) < self._rules.parts_llr:
                return False
        if utterance.coherence is None:
            return True
        return scorer.coherence_llr(embedding, utterance.coherence) >= self._rules.coherence_llr

    def require_same_voice(self, voiceprint: Voiceprint, utterance: Utterance) -> None:
        """Raise `Mismatch` if the utterance is not of the voice of a voiceprint of any model."""
        calibrated = voiceprint.model_id in self._llrs
        if calibrated and self.compare(voiceprint, utterance) < self._rules.match_llr:
            raise Mismatch

    def compare(self, voiceprint: Voiceprint, utterance: Utterance) -> float:
        """The llr of the utterance against a voiceprint of any calibrated model."""
        model_id, quality = voiceprint.model_id, utterance.quality
        newest = model_id == self._contract.model_id
        embedding = (utterance if newest else utterance.for_model(model_id)).embedding
        assert embedding is not None, "the gate lets through what every model can embed"
        return self._llrs[model_id](voiceprint, embedding, quality.net_speech_s, quality.snr_db)


def require_willing(
    speaker: Speaker | None,
    request: EnrollmentRequest,
    retention: Retention,
    *,
    consent_required: bool,
) -> None:
    """Raise `FailedPrecondition` for a speaker who opted out, or without a consent if one is
    required or was withdrawn."""
    if speaker is not None and speaker.state is SpeakerState.OPTED_OUT:
        raise FailedPrecondition(
            "the speaker opted out of voice verification; opt in again first",
            reason=ErrorReason.SPEAKER_OPTED_OUT,
        )
    lacking = speaker is not None and retention.lacks_consent(speaker)
    required = consent_required and (speaker is None or speaker.consent is None)
    if request.consent is None and (lacking or required):
        raise FailedPrecondition(
            "enrollment needs the speaker's consent, and there is none, or it was withdrawn; "
            "send `consent` with the enrollment, or "
            "record it with UpdateSpeaker first",
            reason=ErrorReason.CONSENT_REQUIRED,
        )


def _make_llr(scorer: Scorer) -> Llr:
    def llr(
        voiceprint: Voiceprint,
        embedding: NDArray[np.float32],
        speech_s: float,
        snr_db: float | None,
    ) -> float:
        return scorer.compare(
            average_voice(voiceprint.vectors, voiceprint.speech_s),
            embedding,
            enroll_speech_s=voiceprint.total_speech_s,
            test_speech_s=speech_s,
            snr_db=snr_db,
        )

    return llr
