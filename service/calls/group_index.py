"""Group indexes: the voices of a group in memory, as the store has them.

    a search begins -> what changed since the index's revision? -> read, patch -> search

A search sees every change to the group and to its members that was acknowledged, by any server on
the same store, before the search began. Patches and searches run one after the other on one
thread, away from the event loop, so that no search sees half a patch. If scores are normalized by
the model's cohort, every voice is compared with the cohort once, as it is read.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from service.calls.search import Hit, Ranking, Scale, Vector, Voices
from service.contract import Contract
from service.decisions.scoring import TERMS, CohortStatistics, Measures, Scorer, voice
from service.errors import NotFound
from service.inference.threads import Threads
from service.speakers.voiceprints import ModelSuccession
from service.store import Changes, Revision, Speaker, SpeakerState, Store, Voiceprint

_PAGE = 200


class GroupIndex:
    """The enrolled voices of one group, of one model.

    Reading a group for the first time takes as long as the store does; a reading that is cancelled
    continues from there the next time.
    """

    def __init__(
        self,
        store: Store,
        *,
        tenant: str,
        group: str,
        contract: Contract,
        scorer: Scorer,
        succession: ModelSuccession,
        thread: Threads,
    ) -> None:
        self._succession = succession
        self._store = store
        self._tenant = tenant
        self._group = group
        self._model_id = contract.model_id
        self._dimension = contract.dimension
        self._scorer = scorer
        self._voices = Voices(self._dimension)
        self._thread = thread
        self._revision: Revision | None = None
        self._reading = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._voices)

    async def refresh(self) -> None:
        """Applies what has changed in the store; raises NotFound when the group is gone."""
        async with self._reading:
            more = True
            while more:
                changes = await self._store.groups.changes(
                    self._tenant, self._group, since=self._revision, limit=_PAGE
                )
                if changes.members or changes.restart:
                    await self._apply(changes)
                more = changes.more

    async def best(self, query: Vector, ranking: Ranking, count: int) -> list[Hit]:
        """As `Voices.best`."""
        return await self._thread.run(self._search, query, ranking, count)

    def _search(self, query: Vector, ranking: Ranking, count: int) -> list[Hit]:
        return self._voices.best(query, ranking, count)

    async def _apply(self, changes: Changes) -> None:
        changed = [member.speaker_id for member in changes.members if member.speaker_id is not None]
        speakers = await self._store.get_many(self._tenant, changed)
        await self._thread.run(self._patch, changes, speakers)

    def _patch(self, changes: Changes, speakers: Iterable[Speaker]) -> None:
        if changes.restart:
            self._voices = Voices(self._dimension)
        enrolled = self._enrolled(speakers)
        for member in changes.members:
            entry = enrolled.get(member.speaker_id or "")
            if member.speaker_id is None or entry is None:
                self._voices.drop(member.slot)
            else:
                self._voices.put(member.slot, member.speaker_id, *entry)
        self._revision = changes.revision

    def _enrolled(self, speakers: Iterable[Speaker]) -> dict[str, tuple[Vector, float, Scale]]:
        """By speaker id, of those who are enrolled: voice, log of net speech, and scale."""
        voiceprints = {
            speaker.speaker_id: voiceprint
            for speaker in speakers
            if (voiceprint := self._searchable(speaker)) is not None
        }
        if not voiceprints:
            return {}
        vectors = np.stack([voice(one.vectors, one.speech_s) for one in voiceprints.values()])
        return {
            speaker_id: (vector, _log_speech(voiceprint), scale_of(statistics))
            for (speaker_id, voiceprint), vector, statistics in zip(
                voiceprints.items(), vectors, self._scorer.all_statistics(vectors), strict=True
            )
        }

    def _searchable(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint to search; whether it has expired is for the clock to say, later."""
        if speaker.state is not SpeakerState.ENROLLED:
            return None
        voiceprint = self._succession.select(speaker.voiceprints)
        return voiceprint if voiceprint and voiceprint.model_id == self._model_id else None


class GroupIndexes:
    """Those of the groups that were searched last, up to `max_voices` in all, or else one.

    A voice takes five bytes a dimension and about 300 more. Used under `async with`.
    """

    def __init__(
        self, store: Store, contract: Contract, succession: ModelSuccession, *, max_voices: int
    ) -> None:
        self._store = store
        self._succession = succession
        self._contract = contract
        self._scorer = Scorer(contract)
        self._max_voices = max_voices
        self._thread = Threads(1, name="search")
        self._recent: OrderedDict[tuple[str, str], GroupIndex] = OrderedDict()

    def close(self) -> None:
        self._thread.close()

    async def current(self, tenant: str, group: str) -> GroupIndex:
        """The index as the store has the group now; raises NotFound if there is no such group."""
        key = (tenant, group)
        index = self._recent.get(key) or self._new(tenant, group)
        self._recent[key] = index
        self._recent.move_to_end(key)
        try:
            await index.refresh()
        except NotFound:
            self._recent.pop(key, None)
            raise
        while len(self._recent) > 1 and sum(map(len, self._recent.values())) > self._max_voices:
            self._recent.popitem(last=False)
        return index

    def _new(self, tenant: str, group: str) -> GroupIndex:
        return GroupIndex(
            self._store,
            tenant=tenant,
            group=group,
            contract=self._contract,
            scorer=self._scorer,
            succession=self._succession,
            thread=self._thread,
        )


def scale_of(statistics: CohortStatistics) -> Scale:
    """Half of what a voice's statistics make of a cosine, so that two of them add up to a mean."""
    return Scale(0.5 / statistics.deviation, 0.5 * statistics.mean / statistics.deviation)


def _log_speech(voiceprint: Voiceprint) -> float:
    """As the calibration takes the net speech of an enrollment."""
    return TERMS["log_enrol_speech"](Measures(0.0, float(voiceprint.speech_s.sum()), 0.0, 0.0))
