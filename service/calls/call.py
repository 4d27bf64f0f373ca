"""A call: audio as it comes, and the decision as it stands."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from service.calls.verification import Known, Verifier
from service.decisions.decision import Decision, Outcome, Policy
from service.inference.embedder import Audio, Stream, Utterance
from service.store import Voiceprint

_Judge: TypeAlias = Callable[[Voiceprint, Utterance, Policy], Decision]

_FIRST_STEP_S = 0.5


class Call:
    """One caller against one voiceprint.

    `held` may be the decision on a claim that needs no audio, which stands, or None where nobody is
    claimed, which nothing decides; the call is then heard for others to search with.

    A sequential decision, once reached, stands; a fixed one follows all the speech there is. With
    `continuous`, an accepted call is watched for a change of voice, and back.
    """

    def __init__(
        self,
        stream: Stream,
        verifier: Verifier,
        held: Voiceprint | Decision | None,
        policy: Policy,
        *,
        continuous: bool = False,
    ) -> None:
        self._stream = stream
        self._verifier = verifier
        self._held = held
        self._policy = policy
        self._continuous = continuous
        self._windows = 0
        self._next_s = 0.0
        self._reached: Decision | None = None
        self._heard: Utterance | None = None

    @property
    def heard(self) -> Utterance:
        """What the latest decision was made on; there is one once `hear` or `finish` gave one."""
        assert self._heard is not None, "asked for after a decision"
        return self._heard

    @property
    def decided(self) -> bool:
        """Whether a conclusive decision was reached."""
        return self._reached is not None

    async def hear(self, audio: Audio) -> Decision | None:
        """Takes the next audio; the decision, if there is a new one to tell.

        There is one at every whole window and, before the first, every half second of net speech.
        """
        await self._stream.push(audio)
        if not self._due():
            return None
        self._heard = await self._stream.so_far()
        return self._judged(self._verifier.so_far)

    async def finish(self) -> Decision:
        """The decision on the whole call."""
        self._heard = await self._stream.finish()
        return self._judged(self._verifier.verify)

    def _due(self) -> bool:
        if self._stream.windows:
            due = self._stream.windows > self._windows
            self._windows = self._stream.windows
            return due
        heard_s = self._stream.net_speech_s
        if heard_s < max(self._next_s, self._policy.demands.min_speech_s):
            return False
        self._next_s = heard_s + _FIRST_STEP_S
        return True

    def _judged(self, judge: _Judge) -> Decision:
        if self._held is None:
            return self._verifier.unclaimed(self.heard, self._policy)
        if isinstance(self._held, Decision):
            return replace(self._held, quality=self.heard.quality)
        decision = judge(self._held, self.heard, self._policy)
        if self._reached is None and decision.conclusive:
            self._reached = decision
        if self._reached is not None and self._policy.sequential is not None:
            meets = decision.meets_server_policy  # on all the speech, not only that of the decision
            decision = replace(self._reached, meets_server_policy=meets)
        return self._changed(self._held, decision) or decision

    def _changed(self, held: Voiceprint, decision: Decision) -> Decision | None:
        latest = self._stream.latest
        if not self._continuous or latest is None or decision.outcome is not Outcome.ACCEPTED:
            return None
        quality = self._stream.quality
        now = Known(latest, self._stream.latest_s, quality.snr_db)
        return self._verifier.changed(held, now, quality, self._policy)
