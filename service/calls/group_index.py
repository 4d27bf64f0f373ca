"""Group indexes: the voices of a group in memory, brought up to date before each search.

    changes since the index's revision -> read the speakers -> patch the index -> search

A search sees every change to the group and its members that any server on the same store had
acknowledged before the search began. Patches and searches run one after the other on one thread,
away from the event loop, so that no search sees half a patch. If scores are normalized by the
model's cohort, every voice is compared with the cohort once, when it is read.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from service.calls.ranking import Ranking, Scale, Vector, log_enroll_speech, make_scale
from service.calls.search import Hit, Voices
from service.contract import Contract
from service.decisions.scoring import Scorer, average_voice
from service.errors import NotFound
from service.inference.threads import Threads
from service.speakers.voiceprints import ModelSuccession
from service.store import Changes, Revision, Speaker, SpeakerState, Store, Voiceprint

_PAGE = 200


class GroupIndex:
    """The enrolled voices of one tenant's group, of one model.

    The first `refresh` reads the whole group; if it is cancelled, the next one continues there.
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
        self.tenant = tenant
        self.group = group
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
        """Apply what has changed in the store; raises `NotFound` if the group is gone."""
        async with self._reading:
            more = True
            while more:
                changes = await self._store.groups.changes(
                    self.tenant, self.group, since=self._revision, limit=_PAGE
                )
                if changes.members or changes.restart:
                    await self._apply(changes)
                more = changes.more

    async def find_best(self, query: Vector, ranking: Ranking, count: int) -> list[Hit]:
        """As `Voices.find_best`."""
        return await self._thread.run(self._search, query, ranking, count)

    def _search(self, query: Vector, ranking: Ranking, count: int) -> list[Hit]:
        # Read `_voices` on the thread: an earlier patch may replace it.
        return self._voices.find_best(query, ranking, count)

    async def _apply(self, changes: Changes) -> None:
        changed = [member.speaker_id for member in changes.members if member.speaker_id is not None]
        speakers = await self._store.get_many(self.tenant, changed)
        await self._thread.run(self._patch, changes, speakers)

    def _patch(self, changes: Changes, speakers: Iterable[Speaker]) -> None:
        if changes.restart:
            self._voices = Voices(self._dimension)
        entries = self._make_entries(speakers)
        for member in changes.members:
            entry = entries.get(member.speaker_id or "")
            if member.speaker_id is None or entry is None:
                self._voices.drop(member.slot)
            else:
                self._voices.put(member.slot, member.speaker_id, *entry)
        self._revision = changes.revision

    def _make_entries(self, speakers: Iterable[Speaker]) -> dict[str, tuple[Vector, float, Scale]]:
        """Return voice, log of net speech and scale of each enrolled speaker, by speaker id."""
        voiceprints = {
            speaker.speaker_id: voiceprint
            for speaker in speakers
            if (voiceprint := self._select_voiceprint(speaker)) is not None
        }
        if not voiceprints:
            return {}
        voices = [average_voice(print_.vectors, print_.speech_s) for print_ in voiceprints.values()]
        vectors = np.stack(voices)  # (n, dim)
        return {
            speaker_id: (vector, log_enroll_speech(voiceprint), make_scale(statistics))
            for (speaker_id, voiceprint), vector, statistics in zip(
                voiceprints.items(), vectors, self._scorer.all_statistics(vectors), strict=True
            )
        }

    def _select_voiceprint(self, speaker: Speaker) -> Voiceprint | None:
        """Select the voiceprint to search, if any; that it has expired is found out at the search,
        as it depends on the time."""
        if speaker.state is not SpeakerState.ENROLLED:
            return None
        voiceprint = self._succession.select(speaker.voiceprints)
        return voiceprint if voiceprint and voiceprint.model_id == self._model_id else None


class GroupIndexes:
    """The indexes of the groups that were searched last: `max_voices` in all, but at least one
    group. A voice takes five bytes a dimension and about 300 more. Call `close` at the end.
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

    async def open(self, tenant: str, group: str) -> GroupIndex:
        """Return the group's index as the store has it now; raises `NotFound` for no such group."""
        key = (tenant, group)
        index = self._recent.get(key) or self._make_index(tenant, group)
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

    def _make_index(self, tenant: str, group: str) -> GroupIndex:
        return GroupIndex(
            self._store,
            tenant=tenant,
            group=group,
            contract=self._contract,
            scorer=self._scorer,
            succession=self._succession,
            thread=self._thread,
        )
