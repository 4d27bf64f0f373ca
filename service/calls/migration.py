"""Migration: one model takes over from another without stored audio, as callers call.

    call ─> claim ─┬─ a voice of the current model ─────────────> compared with that model
                   └─ a voice of the previous model only ───────> compared with the previous one
                                                                  │ accepted beyond doubt
                      a voice of the current model <──────────────┘ service.speakers.adaptation

Such a call is embedded with both models at once. No embedding of one model is ever compared with
that of another.
"""

from dataclasses import dataclass, replace

from service.audio.quality import Quality
from service.calls.models import LoadedModel, LoadedModels
from service.decisions.decision import Decision
from service.inference.embedder import (
    Audio,
    AudioSource,
    Embedding,
    EmbedStream,
    Stream,
    Utterance,
)
from service.speakers.lifecycle import Retention
from service.speakers.voiceprints import ModelSuccession
from service.store import Speaker, SpeakerState, Store, Voiceprint

_PAGE = 1000
_IN_SERVICE = (SpeakerState.ENROLLED, SpeakerState.UNCONFIRMED)


class MigratingModels(LoadedModels):
    """The model that new voices are made with, and the one that it takes over from."""

    def __init__(
        self, current: LoadedModel, previous: LoadedModel, succession: ModelSuccession
    ) -> None:
        super().__init__(current)
        self._previous = previous
        self._succession = succession

    def resolve_claim(self, speaker: Speaker | None) -> tuple[LoadedModel, Voiceprint | Decision]:
        voiceprint = self._succession.select(speaker.voiceprints) if speaker else None
        model = self.select(voiceprint.model_id) if voiceprint else self.current
        return model, model.verifier.resolve_claim(speaker)

    def select(self, model_id: str) -> LoadedModel:
        return self._previous if model_id == self._previous.model_id else self.current

    def stream(
        self,
        model: LoadedModel,
        source: AudioSource | None = None,
        *,
        searching: bool = False,
        enrolling: bool = False,
    ) -> Stream:
        """Also with the other model if `model` is the previous one, so that the caller can be
        migrated, or if groups are searched, whose voices are of both."""
        first = model.embedder.stream(source, enrolling=enrolling)
        if model is self.current and not searching:
            return first
        other = self._previous if model is self.current else self.current
        return DualModelStream(first, other.embedder.stream(source and source.free()))


class DualModelStream:
    """One utterance embedded with two models: a `Stream` of the first, whose utterances also hold
    the embedding of the second."""

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
class MigrationCounts:
    """Of the speakers who are enrolled, confirmed or not: those who are compared with the current
    model (`moved`) or still with the previous one (`waiting`), of whom some have `begun` to move,
    and those with voiceprints of neither (`stranded`)."""

    moved: int = 0
    waiting: int = 0
    begun: int = 0
    stranded: int = 0


async def count_migrated(
    store: Store, tenant: str, succession: ModelSuccession, retention: Retention
) -> MigrationCounts:
    """Counts every speaker of the tenant, page by page."""
    counts, after = MigrationCounts(), None
    while True:
        page = await store.list(tenant, limit=_PAGE, after=after)
        for speaker in page.speakers:
            if retention.state(speaker) in _IN_SERVICE:
                counts = _add(counts, speaker, succession)
        if page.next_after is None:
            return counts
        after = page.next_after


def _add(counts: MigrationCounts, speaker: Speaker, succession: ModelSuccession) -> MigrationCounts:
    voiceprint, current = succession.select(speaker.voiceprints), succession.model_ids[0]
    if voiceprint is None:
        return replace(counts, stranded=counts.stranded + 1)
    if voiceprint.model_id == current:
        return replace(counts, moved=counts.moved + 1)
    begun = counts.begun + (current in speaker.voiceprints)
    return replace(counts, waiting=counts.waiting + 1, begun=begun)
