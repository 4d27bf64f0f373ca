"""Rosters: the voices of a group in memory, as the store has them.

    a search begins -> what changed since the roster's revision? -> read, patch -> search

A search sees every change to the group and to its members that was acknowledged, by any server on
the same store, before the search began. Patches and searches run one after the other on one
thread, away from the event loop, so that no search sees half a patch. How a voice stands to the
model's cohort, where scores are normalised by one, is found as it is read: as many products of
`dim` as the cohort has voices.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from service.calls.search import Hit, Ranking, Scale, Vector, Voices
from service.contract import Contract
from service.decisions.scoring import TERMS, Measures, Scorer, Standing, voice
from service.errors import NotFound
from service.inference.threads import Threads
from service.speakers.succession import Succession
from service.store import Changes, Revision, Speaker, SpeakerState, Store, Voiceprint

_PAGE = 200


class Roster:
    """The enrolled voices of one group in the space of one model.

    Reading a group for the first time takes as long as the store does; one that is cancelled on
    the way goes on from there the next time.
    """

    def __init__(
        self,
        store: Store,
        *,
        tenant: str,
        group: str,
        contract: Contract,
        scorer: Scorer,
        succession: Succession,
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
        """Takes in what has changed in the store; raises NotFound when the group is gone."""
        async with self._reading:
            more = True
            while more:
                changes = await self._store.groups.changes(
                    self._tenant, self._group, since=self._revision, limit=_PAGE
                )
                if changes.members or changes.restart:
                    await self._take(changes)
                more = changes.more

    async def best(self, query: Vector, ranking: Ranking, count: int) -> list[Hit]:
        """As `Voices.best`."""
        return await self._thread.run(self._best, query, ranking, count)

    def _best(self, query: Vector, ranking: Ranking, count: int) -> list[Hit]:
        return self._voices.best(query, ranking, count)

    async def _take(self, changes: Changes) -> None:
        named = [member.speaker_id for member in changes.members if member.speaker_id is not None]
        speakers = await self._store.get_many(self._tenant, named)
        await self._thread.run(self._patch, changes, speakers)

    def _patch(self, changes: Changes, speakers: Iterable[Speaker]) -> None:
        if changes.restart:
            self._voices = Voices(self._dimension)
        heard = self._enrolled(speakers)
        for member in changes.members:
            found = heard.get(member.speaker_id or "")
            if member.speaker_id is None or found is None:
                self._voices.drop(member.slot)
            else:
                self._voices.put(member.slot, member.speaker_id, *found)
        self._revision = changes.revision

    def _enrolled(self, speakers: Iterable[Speaker]) -> dict[str, tuple[Vector, float, Scale]]:
        """Of each who is enrolled the voice, the log of its net speech and its scale."""
        held = {speaker.speaker_id: self._held(speaker) for speaker in speakers}
        found = {name: voiceprint for name, voiceprint in held.items() if voiceprint is not None}
        if not found:
            return {}
        vectors = np.stack([voice(held.vectors, held.speech_s) for held in found.values()])
        return {
            name: (vector, _log_speech(voiceprint), scale_of(standing))
            for (name, voiceprint), vector, standing in zip(
                found.items(), vectors, self._scorer.standings(vectors), strict=True
            )
        }

    def _held(self, speaker: Speaker) -> Voiceprint | None:
        """The voiceprint to search; whether it has expired is for the clock to say, later."""
        if speaker.state is not SpeakerState.ENROLLED:
            return None
        held = self._succession.in_use(speaker.voiceprints)
        return held if held and held.model_id == self._model_id else None


class Rosters:
    """Those of the groups that were searched last, up to `max_voices` in all, or else one.

    A voice takes five bytes a dimension and about 300 more. Used under `async with`.
    """

    def __init__(
        self, store: Store, contract: Contract, succession: Succession, *, max_voices: int
    ) -> None:
        self._store = store
        self._succession = succession
        self._contract = contract
        self._scorer = Scorer(contract)
        self._max_voices = max_voices
        self._thread = Threads(1, name="search")
        self._held: OrderedDict[tuple[str, str], Roster] = OrderedDict()

    def close(self) -> None:
        self._thread.close()

    async def current(self, tenant: str, group: str) -> Roster:
        """The roster as the store has it now; raises NotFound when there is no such group."""
        key = (tenant, group)
        roster = self._held.get(key) or self._new(tenant, group)
        self._held[key] = roster
        self._held.move_to_end(key)
        try:
            await roster.refresh()
        except NotFound:
            self._held.pop(key, None)
            raise
        while len(self._held) > 1 and sum(map(len, self._held.values())) > self._max_voices:
            self._held.popitem(last=False)
        return roster

    def _new(self, tenant: str, group: str) -> Roster:
        return Roster(
            self._store,
            tenant=tenant,
            group=group,
            contract=self._contract,
            scorer=self._scorer,
            succession=self._succession,
            thread=self._thread,
        )


def scale_of(standing: Standing) -> Scale:
    """Half of what a standing makes of a cosine, so that two of them give their mean."""
    return Scale(0.5 / standing.deviation, 0.5 * standing.mean / standing.deviation)


def _log_speech(voiceprint: Voiceprint) -> float:
    """As the calibration sees the net speech of an enrolment."""
    return TERMS["log_enrol_speech"](Measures(0.0, float(voiceprint.speech_s.sum()), 0.0, 0.0))
