"""Migration: move speakers from one model to the next by their calls, without stored audio.

    call ─> claim ─┬─ a voice of the current model ─────────────> compare with that model
                   └─ a voice of the previous model only ───────> compare with the previous one
                                                                  │ accepted with a margin
                      a voice of the current model <──────────────┘ service.speakers.adaptation

A call of the second kind is embedded with both models. An embedding of one model is never compared
with one of the other.
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
_COUNTED_STATES = (SpeakerState.ENROLLED, SpeakerState.UNCONFIRMED)


class MigratingModels(LoadedModels):
    """The current model, which new voices are made with, and the previous one."""

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

    def open_stream(
        self,
        model: LoadedModel,
        source: AudioSource | None = None,
        *,
        searching: bool = False,
        enrolling: bool = False,
    ) -> Stream:
        """As in the base class. The stream also embeds with the other model if `model` is the
        previous one, to migrate the speaker, and if groups are searched, which hold voices of both.
        """
        first = model.embedder.open_stream(source, enrolling=enrolling)
        if model is self.current and not searching:
            return first
        other = self._previous if model is self.current else self.current
        return DualModelStream(
            first, other.embedder.open_stream(source and source.without_charge())
        )


class DualModelStream:
    """Embeds one utterance with two models: a `Stream` of the first, whose utterances also hold the
    embedding of the second in `also`."""

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
    """How many enrolled speakers, confirmed or not, are compared with the current model (`moved`)
    or still with the previous one (`waiting`, of whom some have `begun` to move), and how many have
    voiceprints of neither (`stranded`)."""

    moved: int = 0
    waiting: int = 0
    begun: int = 0
    stranded: int = 0


async def count_migrated(
    store: Store, tenant: str, succession: ModelSuccession, retention: Retention
) -> MigrationCounts:
    """Count the speakers of the tenant, page by page."""
    counts, after = MigrationCounts(), None
    while True:
        page = await store.list(tenant, limit=_PAGE, after=after)
        for speaker in page.speakers:
            if retention.state(speaker) in _COUNTED_STATES:
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
