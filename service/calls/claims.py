"""Claims: an utterance against the voice of the claimed speaker, or against the voices of a
household, one of whom is claimed to speak.

    voices ─> log-likelihood ratio of each ─> log of their mean ─> decision
                                          └─> the likeliest voice

The mean of the likelihood ratios is the likelihood ratio of "one of these N speaks, each as likely
as the other" to "none of them does". It is calibrated if each of them is, so that costs and the
bounds of a sequential test mean what they mean for one voice: the weight functions of Wald (1945)
for a composite hypothesis. The largest of N ratios, in contrast, is reached by impostors up to N
times as often. See `service.decisions.thresholds` for a target false-match rate.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from service.audio.quality import Quality
from service.calls.models import LoadedModel, LoadedModels
from service.calls.verification import ProbeEmbedding, Verifier
from service.decisions.decision import (
    ClaimedSpeaker,
    ClaimStatus,
    Decision,
    Score,
    choose_band,
    decide,
    decide_early,
    decide_inconclusive,
    list_shortcomings,
    reject_changed_voice,
)
from service.decisions.policy import Policy, QualityGate, SequentialTest, ThresholdSource
from service.decisions.thresholds import ONE_VOICE, ClaimSize, Threshold
from service.inference.embedder import Utterance
from service.store import Speaker, Voiceprint


@dataclass(frozen=True, slots=True)
class ClaimedVoice:
    """A voiceprint to compare with, and the verifier of the model that it was made with."""

    speaker_id: str
    voiceprint: Voiceprint
    verifier: Verifier


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The score of a claim: the log of the mean likelihood ratio of its voices, with the cosine of
    the `likeliest`; and the score of each voice."""

    score: Score
    likeliest: ClaimedVoice
    scores: Sequence[Score]

    @property
    def size(self) -> ClaimSize:
        return _measure_size(self.score, self.scores)


@dataclass(frozen=True)
class Claim:
    """At least one voice to compare with. `claimed` are all speakers that a household names, in the
    order of the request, those without a comparable voice among them; empty if it names one only.

    Voices of two models, during an upgrade, are each compared with their own model, and the
    thresholds and limits of the stricter model count.
    """

    voices: tuple[ClaimedVoice, ...]
    claimed: tuple[ClaimedSpeaker, ...] = field(default=())

    @classmethod
    def of_one(cls, verifier: Verifier, voiceprint: Voiceprint, speaker_id: str = "") -> Self:
        """Claim one speaker."""
        return cls((ClaimedVoice(speaker_id, voiceprint, verifier),))

    def verify(self, utterance: Utterance, policy: Policy) -> Decision:
        """Make the fixed decision on an utterance.

        Raises `FailedPrecondition` if a model has no calibration.
        """
        return self._decide(utterance, policy, None)

    def verify_so_far(self, utterance: Utterance, policy: Policy) -> Decision:
        """As `verify` while more speech may come: sequential if the policy says so."""
        test = policy.sequential
        ended = test is not None and utterance.quality.net_speech_s >= test.max_speech_s
        return self._decide(utterance, policy, None if ended else test)

    def accept(self, decision: Decision) -> Decision:
        """Make the server's own decision from one that meets the server's policy."""
        assert decision.score is not None, "a decision that meets the policy has a score"
        scores = [speaker.score for speaker in decision.claimed if speaker.score]
        threshold = self._choose_server_threshold(_measure_size(decision.score, scores))
        accepted = decide(decision.score, threshold, decision.quality, decision.model_id)
        return replace(accepted, likeliest=decision.likeliest, claimed=decision.claimed)

    def detect_change(
        self, accepted: Decision, latest: ProbeEmbedding, quality: Quality, policy: Policy
    ) -> Decision | None:
        """Return REJECTED if the `latest` speech, embedded with the model that accepted the call,
        is not of the voice that was accepted, else None. Another member of the household who takes
        the telephone is a change, too."""
        single = self._select(accepted.likeliest)
        voice, test = single.voices[0], policy.sequential
        score = voice.verifier.score(voice.voiceprint, latest)
        threshold, own = single._choose_threshold(policy), single._choose_server_threshold()
        if test is not None:
            threshold = Threshold(
                test.reject_llr, ThresholdSource.REQUEST, "sequential test, lower bound"
            )
        if score.llr >= threshold.llr:
            return None
        changed = reject_changed_voice(score, threshold, quality, voice.verifier.model_id)
        failed = score.llr < own.llr
        return replace(
            changed,
            meets_server_policy=False if failed else None,
            band=choose_band(score, own),
            likeliest=accepted.likeliest,
            claimed=self.claimed,
        )

    @property
    def needs_both_models(self) -> bool:
        """Whether the voices are of two models, so that the call has to be embedded with both."""
        return len(self._verifiers) > 1

    @property
    def _verifiers(self) -> tuple[Verifier, ...]:
        """The verifiers of the models, each once."""
        return tuple({voice.verifier.model_id: voice.verifier for voice in self.voices}.values())

    @property
    def _server_gate(self) -> QualityGate:
        first, *others = (verifier.policy.gate for verifier in self._verifiers)
        for gate in others:
            first = first.tighten(gate)
        return first

    def _select(self, speaker_id: str) -> "Claim":
        """Return the claim of one of the voices only."""
        if len(self.voices) == 1:
            return self
        return Claim(tuple(voice for voice in self.voices if voice.speaker_id == speaker_id))

    def _decide(
        self, utterance: Utterance, policy: Policy, test: SequentialTest | None
    ) -> Decision:
        self._choose_threshold(policy)  # raises for a rate that was not measured
        quality = utterance.quality
        if reasons := list_shortcomings(quality, policy.gate):
            model_id = self.voices[0].verifier.model_id
            inconclusive = decide_inconclusive(reasons, quality, policy.gate, model_id)
            return replace(inconclusive, claimed=self.claimed)
        compared = self._compare(utterance)
        score, model_id = compared.score, compared.likeliest.verifier.model_id
        own = self._choose_server_threshold(compared.size)
        if test is not None:
            least = own if policy.at_least else None
            decision = decide_early(score, test, quality, model_id, least=least)
        else:
            threshold = self._choose_threshold(policy, compared.size)
            decision = decide(score, threshold, quality, model_id)
        return replace(
            decision,
            meets_server_policy=self._meets_policy(score, own, quality),
            band=choose_band(score, own),
            likeliest=compared.likeliest.speaker_id,
            claimed=self._add_scores(compared.scores),
        )

    def _compare(self, utterance: Utterance) -> _Comparison:
        """Compare an utterance with an embedding, which the policy's gate has asked for."""
        scores = [
            voice.verifier.score(voice.voiceprint, _make_probe(voice, utterance))
            for voice in self.voices
        ]
        best = max(range(len(scores)), key=lambda i: scores[i].llr)
        llr = log_mean_exp([score.llr for score in scores])
        return _Comparison(Score(scores[best].cosine, llr), self.voices[best], scores)

    def _choose_threshold(self, policy: Policy, size: ClaimSize = ONE_VOICE) -> Threshold:
        return _choose_strictest(
            verifier.choose_threshold(policy, size) for verifier in self._verifiers
        )

    def _choose_server_threshold(self, size: ClaimSize = ONE_VOICE) -> Threshold:
        return _choose_strictest(
            verifier.choose_server_threshold(size) for verifier in self._verifiers
        )

    def _meets_policy(self, score: Score, own: Threshold, quality: Quality) -> bool | None:
        if score.llr < own.llr:
            return False
        return None if list_shortcomings(quality, self._server_gate) else True

    def _add_scores(self, scores: Sequence[Score]) -> tuple[ClaimedSpeaker, ...]:
        by_id = {voice.speaker_id: score for voice, score in zip(self.voices, scores, strict=True)}
        return tuple(
            replace(speaker, score=by_id.get(speaker.speaker_id))
            if speaker.status is ClaimStatus.COMPARED
            else speaker
            for speaker in self.claimed
        )


def resolve_claim(
    models: LoadedModels,
    speaker_ids: Sequence[str],
    speakers: Mapping[str, Speaker | None],
    locked: Collection[str] = (),
) -> tuple[LoadedModel, Claim | Decision]:
    """Return the model to embed with, and the claim of one speaker, or that one of several speaks;
    or a decision that needs no audio.

    `speakers` are those whom the store has. Members of a household who are `locked`, or have no
    voice that may be compared, are left out, and the claim says so of each.
    """
    resolved = {
        speaker_id: models.resolve_claim(speakers.get(speaker_id))
        for speaker_id in speaker_ids
        if speaker_id not in locked
    }
    voices = tuple(
        ClaimedVoice(speaker_id, claim, model.verifier)
        for speaker_id, (model, claim) in resolved.items()
        if isinstance(claim, Voiceprint)
    )
    claimed = tuple(
        ClaimedSpeaker(
            speaker_id, _name_status(resolved[speaker_id][1] if speaker_id in resolved else None)
        )
        for speaker_id in (speaker_ids if len(speaker_ids) > 1 else ())
    )
    if voices:
        return resolved[voices[0].speaker_id][0], Claim(voices, claimed)
    model, refusal = next(iter(resolved.values()))
    assert isinstance(refusal, Decision), "there is no voice"
    if not claimed:
        return model, refusal
    states = ", ".join(dict.fromkeys(speaker.status.name for speaker in claimed))
    nobody = f"none of the {len(claimed)} claimed speakers can be compared ({states})"
    return model, replace(refusal, explanation=nobody, claimed=claimed)


def _name_status(claim: Voiceprint | Decision | None) -> ClaimStatus:
    if claim is None:
        return ClaimStatus.LOCKED
    if isinstance(claim, Voiceprint):
        return ClaimStatus.COMPARED
    return ClaimStatus[claim.outcome.name]


def measure_lead(claimed: Iterable[ClaimedSpeaker]) -> float:
    """Return by how much the highest log-likelihood ratio exceeds the next one; infinity unless
    there are two."""
    llrs = sorted((speaker.score.llr for speaker in claimed if speaker.score), reverse=True)
    return llrs[0] - llrs[1] if len(llrs) > 1 else math.inf


def log_mean_exp(llrs: Sequence[float]) -> float:
    """Return the log of the mean likelihood ratio, `log(sum(exp(llr)) / N)`."""
    highest = max(llrs)
    return highest + math.log(math.fsum(math.exp(llr - highest) for llr in llrs) / len(llrs))


def _make_probe(voice: ClaimedVoice, utterance: Utterance) -> ProbeEmbedding:
    own = utterance.for_model(voice.verifier.model_id) if utterance.also else utterance
    assert own.embedding is not None, "the policy demands what the models need"
    quality = utterance.quality
    return ProbeEmbedding(own.embedding, quality.net_speech_s, quality.snr_db)


def _measure_size(score: Score, scores: Sequence[Score]) -> ClaimSize:
    if len(scores) <= 1:
        return ONE_VOICE
    return ClaimSize(len(scores), max(each.llr for each in scores) - score.llr)


def _choose_strictest(thresholds: Iterable[Threshold]) -> Threshold:
    return max(thresholds, key=lambda threshold: threshold.llr)
