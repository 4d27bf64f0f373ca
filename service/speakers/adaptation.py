"""Adaptation: calls that were accepted with a margin improve a voice.

    accepted with a margin ─┬─ by the current model  ──> one more vector of the same voice
                            └─ by the previous model ──> one more vector of the voice of the
                                                         current model, which counts once complete

Either way the call is one more version of the speaker, which can be undone.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.audit import Action, Auditor
from service.decisions.decision import Decision, Outcome
from service.errors import Aborted, NotFound
from service.inference.embedder import Utterance
from service.settings import LearningRule
from service.speakers.enrollment import Enroller, Mismatch
from service.speakers.lifecycle import Retention, change_speaker, record_enrollment
from service.store import Speaker, SpeakerState, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AcceptedCall:
    """An accepted call of `speaker`, as stored when the call began.

    `decision` is by the server's own policy on the whole call; `digest` is the SHA-256 of the audio
    as it was sent, in hexadecimal. `lead_llr` is by how much the voice's log-likelihood ratio
    exceeds that of the next claimed speaker; infinity if nobody else was claimed.
    """

    speaker: Speaker
    utterance: Utterance
    decision: Decision
    digest: str
    lead_llr: float = math.inf


Grow = Callable[[Speaker, AcceptedCall, float], Speaker]
"""Adds a call to a speaker at a time in seconds since the epoch; raises `Mismatch`."""


@dataclass(frozen=True, slots=True)
class Learning:
    """How calls that one model accepts change a voice; with `unchanged_only`, only if the speaker
    has not changed since the call began."""

    action: Action
    rule: LearningRule
    grow: Grow
    unchanged_only: bool = False


def adapt_with(enroller: Enroller, rule: LearningRule) -> Learning:
    """Learning by which calls that the current model accepts improve its own voiceprint."""

    def grow(speaker: Speaker, call: AcceptedCall, now: float) -> Speaker:
        threshold = call.decision.threshold
        assert threshold is not None, "the call was accepted"
        return enroller.adapt(speaker, call.utterance, threshold.llr, call.digest)

    return Learning(Action.ADAPT, rule, grow)


def migrate_with(enroller: Enroller, rule: LearningRule) -> Learning:
    """Learning by which calls that the previous model accepts build a current voiceprint."""

    def grow(speaker: Speaker, call: AcceptedCall, now: float) -> Speaker:
        return enroller.extend(speaker, call.utterance.for_model(enroller.model_id), now)

    return Learning(Action.MOVE, rule, grow, unchanged_only=True)


class CallLearner:
    """Learns from accepted calls, by the id of the model that accepted them."""

    def __init__(
        self,
        store: Store,
        enroller: Enroller,
        auditor: Auditor,
        retention: Retention,
        by_model: Mapping[str, Learning],
    ) -> None:
        self._store = store
        self._enroller = enroller
        self._auditor = auditor
        self._retention = retention
        self._by_model = by_model

    def learns_from(self, model_id: str) -> bool:
        """Whether any call that this model accepts changes a voice."""
        return model_id in self._by_model

    async def learn(self, call: AcceptedCall) -> Speaker | None:
        """Add the call to the voice and return the stored speaker; None if the rules, or a change
        of the speaker since the call began, forbid that."""
        learning = self._by_model.get(call.decision.model_id)
        if learning is None or not self._allows(learning.rule, call):
            return None
        async with self._auditor.record_change(learning.action, call.speaker.speaker_id) as entry:
            learned = await self._add_call(learning, call)
            outcome = "REFUSED" if learned is None else "STORED"
            entry.set_outcome(outcome, model_id=self._enroller.model_id)
        return learned

    def _allows(self, rule: LearningRule, call: AcceptedCall) -> bool:
        decision, utterance = call.decision, call.utterance
        return (
            decision.outcome is Outcome.ACCEPTED
            and decision.score is not None
            and decision.threshold is not None
            and decision.score.llr >= decision.threshold.llr + rule.margin_llr
            and call.lead_llr >= rule.margin_llr
            and utterance.quality.net_speech_s >= rule.min_speech_s
            and self._enroller.checks.is_good(utterance.for_model(self._enroller.model_id))
        )

    async def _add_call(self, learning: Learning, call: AcceptedCall) -> Speaker | None:
        speaker = call.speaker

        def step(speaker: Speaker) -> Speaker:
            if self._retention.state(speaker) is not SpeakerState.ENROLLED:
                raise Mismatch
            now = self._retention.clock()
            grown = learning.grow(speaker, call, now)
            return record_enrollment(speaker, grown, now=now, adapted=True)

        try:
            learned = await change_speaker(
                self._store,
                speaker.tenant,
                speaker.speaker_id,
                step,
                etag=speaker.etag if learning.unchanged_only else "",
            )
        except (Mismatch, NotFound, Aborted):
            return None
        speech_s = call.utterance.quality.net_speech_s
        log.info("adapted a voice with %.1f s of net speech (%s)", speech_s, learning.action)
        return learned
