"""Upgrade: one model takes over from another without stored audio, as callers call.

    call ─> claimed ─┬─ a voice of the current model ────────────> compared in its space
                     └─ a voice of the previous one only ────────> compared in that one's space
                                                                   │ accepted beyond doubt
                        a voice of the current model <─────────────┘

Such a call is heard in both spaces at once. No embedding of one model is ever compared with that
of another.
"""

import logging
from dataclasses import dataclass, replace

from service.audio.quality import Quality
from service.calls.verification import Known, Verifier
from service.decisions.decision import Decision, Outcome
from service.errors import Aborted, NotFound
from service.inference.embedder import (
    Audio,
    AudioSource,
    Embedder,
    Embedding,
    EmbedStream,
    Stream,
    Utterance,
)
from service.speakers.enrollment import Enroller, Mismatch
from service.speakers.succession import Succession
from service.store import Speaker, SpeakerState, Store, Voiceprint
from service.store.lifecycle import Retention, change, enrolled

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Space:
    """One loaded model: what embeds with it, and what compares in its space."""

    embedder: Embedder
    verifier: Verifier

    @property
    def model_id(self) -> str:
        return self.embedder.contract.model_id


@dataclass(frozen=True, slots=True)
class Spaces:
    """The model that new voices are made with and, during an upgrade, the one before it."""

    current: Space
    succession: Succession
    previous: Space | None = None

    def claimed(self, speaker: Speaker | None) -> tuple[Space, Voiceprint | Decision]:
        """The space to compare in, and the voiceprint or the decision that needs no audio."""
        held = self.succession.in_use(speaker.voiceprints) if speaker else None
        space = self.of(held.model_id) if held else self.current
        return space, space.verifier.claimed(speaker)

    def of(self, model_id: str) -> Space:
        """The space of a model; the current one for a model that is not loaded."""
        if self.previous is not None and self.previous.model_id == model_id:
            return self.previous
        return self.current

    def stream(
        self,
        space: Space,
        source: AudioSource | None = None,
        *,
        searching: bool = False,
        enrolling: bool = False,
    ) -> Stream:
        """An utterance in one space; also in the other where that one is the previous, so that the
        caller can be moved, or where the voices of both are searched."""
        if self.previous is None or (space is self.current and not searching):
            return space.embedder.stream(source, enrolling=enrolling)
        other = self.previous if space is self.current else self.current
        first = space.embedder.stream(source, enrolling=enrolling)
        return TwinStream(first, other.embedder.stream(source and source.free()))


class TwinStream:
    """One utterance in two spaces: to callers the `Stream` of the first, whose utterances hold
    those of the second, too."""

    def __init__(self, first: EmbedStream, second: EmbedStream) -> None:
        self._first = first
        self._second = second

    @property
    def block_bytes(self) -> int:
        return self._first.block_bytes

    @property
    def quality(self) -> Quality:
        return self._first.quality

    @property
    def net_speech_s(self) -> float:
        return self._first.net_speech_s

    @property
    def windows(self) -> int:
        return self._first.windows

    @property
    def latest(self) -> Embedding | None:
        return self._first.latest

    @property
    def latest_s(self) -> float:
        return self._first.latest_s

    async def push(self, audio: Audio) -> None:
        await self._first.push(audio)
        await self._second.push(audio)

    async def finish(self, audio: Audio | None = None) -> Utterance:
        first, second = await self._first.finish(audio), await self._second.finish(audio)
        return replace(first, also=second)

    async def so_far(self) -> Utterance:
        return replace(await self._first.so_far(), also=await self._second.so_far())


@dataclass(frozen=True, slots=True)
class MoveRules:
    """Whom the operator lets move: whose whole call is `margin_llr` above the threshold, on
    `min_speech_s` of net speech or more, with a consent where one is required."""

    margin_llr: float = 3.0
    min_speech_s: float = 3.0
    consent_required: bool = False


class Mover:
    """Moves callers from the previous model's space to the current one's."""

    def __init__(
        self,
        store: Store,
        enroller: Enroller,
        spaces: Spaces,
        *,
        rules: MoveRules,
        retention: Retention,
    ) -> None:
        self._store = store
        self._enroller = enroller
        self._spaces = spaces
        self._rules = rules
        self._retention = retention

    async def move(
        self, speaker: Speaker, utterance: Utterance, decision: Decision
    ) -> Speaker | None:
        """Adds the speech to the speaker's voice of the current model, which counts once it is
        complete; None where the rules, or any change of the speaker meanwhile, forbid it.

        It is undone as an adaptation is.
        """
        if not self.moves(speaker, utterance, decision):
            return None
        heard = utterance.within(self._spaces.current.model_id)

        def step(found: Speaker) -> Speaker:
            unwilling = self._rules.consent_required and found.consent is None
            if unwilling or self._retention.state(found) is not SpeakerState.ENROLLED:
                raise Mismatch
            now = self._retention.clock()
            after = self._enroller.extended(found, heard, now)
            return enrolled(found, after, now=now, adapted=True)

        try:
            moved = await change(
                self._store, speaker.tenant, speaker.speaker_id, step, etag=speaker.etag
            )
        except (Mismatch, NotFound, Aborted):
            return None
        log.info("moved %.1f s of net speech to the current model", heard.quality.net_speech_s)
        return moved

    def moves(self, speaker: Speaker, utterance: Utterance, decision: Decision) -> bool:
        """Whether the rules let an accepted call move its caller."""
        previous = self._spaces.previous
        return (
            previous is not None
            and decision.model_id == previous.model_id
            and self._beyond_doubt(speaker, utterance, decision)
            and self._enroller.good(utterance.within(self._spaces.current.model_id))
        )

    def _beyond_doubt(self, speaker: Speaker, utterance: Utterance, decision: Decision) -> bool:
        """Judged on the whole call: an early decision may stand while another one speaks on."""
        held, space = self._spaces.succession.in_use(speaker.voiceprints), self._spaces.previous
        assert held is not None, "the decision was made on it"
        assert space is not None, "the decision was made in it"
        heard, quality = utterance.within(space.model_id), utterance.quality
        if (
            decision.outcome is not Outcome.ACCEPTED
            or decision.threshold is None
            or heard.embedding is None
            or quality.net_speech_s < self._rules.min_speech_s
        ):
            return False
        known = Known(heard.embedding, quality.net_speech_s, quality.snr_db)
        least_llr = decision.threshold.llr + self._rules.margin_llr
        return space.verifier.score(held, known).llr >= least_llr
