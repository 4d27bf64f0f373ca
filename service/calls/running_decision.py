"""The decision on a claimed voice, which is made again as more speech comes."""

from dataclasses import replace

from service.calls.claims import Claim
from service.calls.verification import ProbeEmbedding, Verifier
from service.decisions.decision import Decision, Outcome
from service.decisions.policy import Policy
from service.inference.embedder import Audio, Stream, Utterance

_FIRST_STEP_S = 0.5


class RunningDecision:
    """One caller against one claim; the `stream` embeds with the `verifier`'s model.

    The `claim` is what to compare with; or a final decision that needs no audio; or None if nobody
    is claimed. In the last two cases the audio is embedded only to search groups with it.

    The first conclusive sequential decision is final; a fixed decision is made again on all the
    speech so far. If `continuous`, an accepted call is watched for a change of voice, and back.
    """

    def __init__(
        self,
        stream: Stream,
        verifier: Verifier,
        claim: Claim | Decision | None,
        policy: Policy,
        *,
        continuous: bool = False,
    ) -> None:
        self._stream = stream
        self._verifier = verifier
        self._claim = claim
        self._policy = policy
        self._continuous = continuous
        self._decided_windows = 0  # at the latest decision
        self._next_s = 0.0  # of net speech, at the next decision before the first window
        self._conclusive: Decision | None = None  # the first one
        self._utterance: Utterance | None = None
        self._on_all_speech: Decision | None = None

    @property
    def utterance(self) -> Utterance:
        """The speech that the latest decision was made on."""
        assert self._utterance is not None, "there is a decision before it is asked for"
        return self._utterance

    @property
    def is_decided(self) -> bool:
        """Whether there was a conclusive decision."""
        return self._conclusive is not None

    @property
    def accepted_by_server(self) -> Decision | None:
        """The server's own decision on all the speech so far, if it accepts the claim."""
        latest = self._on_all_speech
        if latest is None or not latest.meets_server_policy:
            return None
        assert isinstance(self._claim, Claim), "voices were compared"
        return self._claim.accept(latest)

    async def hear(self, audio: Audio) -> Decision | None:
        """Take the next audio and return a new decision, if one is due.

        One is due at every whole window and, before the first, every half second of net speech.
        """
        await self._stream.push(audio)
        if not self._is_due():
            return None
        self._utterance = await self._stream.so_far()
        return self._decide(ended=False)

    async def finish(self, audio: Audio | None = None) -> Decision:
        """Take the last audio, if any, and return the decision on the whole call."""
        self._utterance = await self._stream.finish(audio)
        return self._decide(ended=True)

    def _is_due(self) -> bool:
        if self._stream.windows:
            is_due = self._stream.windows > self._decided_windows
            self._decided_windows = self._stream.windows
            return is_due
        speech_s = self._stream.net_speech_s
        if speech_s < max(self._next_s, self._policy.gate.min_speech_s):
            return False
        self._next_s = speech_s + _FIRST_STEP_S
        return True

    def _decide(self, *, ended: bool) -> Decision:
        claim = self._claim
        if claim is None:
            return self._verifier.decide_unclaimed(self.utterance, self._policy)
        if isinstance(claim, Decision):
            return replace(claim, quality=self.utterance.quality)
        decide = claim.verify if ended else claim.verify_so_far
        decision = self._on_all_speech = decide(self.utterance, self._policy)
        if self._conclusive is None and decision.conclusive:
            self._conclusive = decision
        if self._conclusive is not None and self._policy.sequential is not None:
            # The consequences follow all the speech, not only that of the final decision.
            meets = decision.meets_server_policy
            if meets and decision.likeliest != self._conclusive.likeliest:
                meets = None  # all the speech is rather of another member of the household
            decision = replace(self._conclusive, meets_server_policy=meets)
        return self._detect_change(claim, decision) or decision

    def _detect_change(self, claim: Claim, decision: Decision) -> Decision | None:
        latest = self._stream.latest
        if not self._continuous or latest is None or decision.outcome is not Outcome.ACCEPTED:
            return None
        if decision.model_id != self._verifier.model_id:
            return None  # of a household in two models, the latest speech is known in one
        quality = self._stream.quality
        probe = ProbeEmbedding(latest, self._stream.latest_s, quality.snr_db)
        return claim.detect_change(decision, probe, quality, self._policy)
