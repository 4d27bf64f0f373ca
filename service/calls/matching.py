"""Matching: the members of a group whose voices are most like an utterance, with one model.

    utterance -> group index, up to date -> best voices -> read again from the store -> matches

Every match is read again from the store: a speaker who was deleted, opted out, expired or is not
enrolled is dropped, whatever the index says.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from service.calls.group_index import GroupIndex, GroupIndexes
from service.calls.ranking import Scale, Vector, make_ranking, make_scale
from service.calls.verification import ProbeEmbedding, Verifier
from service.contract import Calibration, Contract
from service.decisions.match import Match
from service.decisions.policy import Policy
from service.errors import FailedPrecondition
from service.inference.embedder import Utterance
from service.speakers.lifecycle import Retention
from service.speakers.voiceprints import ModelSuccession
from service.store import Speaker, SpeakerState, Store, Voiceprint

_SPARE = 8  # voices beyond the wanted ones, as some may be dropped
_MARGIN_LLR = 2.0  # by which the voice of an index may differ from the one in the store

IsLocked: TypeAlias = Callable[[str, str], Awaitable[bool]]
"""Whether failed verifications have locked a tenant's speaker."""


def rank_by_llr(match: Match) -> tuple[float, str, str]:
    """Return the key that sorts matches by falling llr."""
    return -match.score.llr, match.group, match.speaker_id


class GroupMatcher:
    """Finds matches in groups with one model. `policy` is the server's own for that model,
    `succession` says with which model a speaker is compared. Call `close` at the end."""

    def __init__(
        self,
        store: Store,
        contract: Contract,
        *,
        policy: Policy,
        retention: Retention,
        succession: ModelSuccession,
        max_voices: int,
    ) -> None:
        self.contract = contract
        self.policy = policy
        self._store = store
        self._retention = retention
        self._succession = succession
        self._verifier = Verifier(contract)
        self._indexes = GroupIndexes(store, contract, succession, max_voices=max_voices)

    def close(self) -> None:
        self._indexes.close()

    @property
    def calibration(self) -> Calibration:
        """The model's; raises `FailedPrecondition` if it has none."""
        if self.contract.calibration is None:
            raise FailedPrecondition(
                "the model has no calibration, so nobody can be identified; run "
                "`sayso-export calibrate` on it and restart the server"
            )
        return self.contract.calibration

    async def open_index(self, tenant: str, group: str) -> GroupIndex:
        """Return the group's index, up to date; raises `NotFound` for a group that is unknown."""
        return await self._indexes.open(tenant, group)

    async def find_matches(
        self,
        index: GroupIndex,
        utterance: Utterance,
        count: int,
        *,
        min_llr: float = -math.inf,
        is_locked: IsLocked | None = None,
    ) -> tuple[Match, ...]:
        """Find the `count` best members who can be verified now, are not locked and reach
        `min_llr`, scored as in verification. Members far below `min_llr` are not read again."""
        quality = utterance.quality
        own = utterance.for_model(self.contract.model_id) if utterance.also else utterance
        assert own.embedding is not None, "the policy demands what the model needs"
        probe = ProbeEmbedding(own.embedding, quality.net_speech_s, quality.snr_db)
        ranking = make_ranking(self.calibration, quality, self._make_scale(own.embedding))
        limit = count + _SPARE
        while True:
            hits = await index.find_best(own.embedding, ranking, limit)
            hits = [hit for hit in hits if hit.llr >= min_llr - _MARGIN_LLR]
            speakers = await self._store.get_many(index.tenant, [hit.speaker_id for hit in hits])
            matches = [
                match
                for match in self._score(index.group, speakers, probe)
                if match.score.llr >= min_llr
            ]
            matches.sort(key=rank_by_llr)
            best = await _take_unlocked(index.tenant, matches, count, is_locked)
            if len(best) >= count or len(hits) < limit:
                return best
            limit *= 4

    def _score(self, group: str, speakers: Sequence[Speaker], probe: ProbeEmbedding) -> list[Match]:
        now = self._retention.clock()
        return [
            Match(
                group,
                speaker.speaker_id,
                self._verifier.score(voiceprint, probe),
                self.contract.model_id,
                use_noted=voiceprint.has_noted_use(now),
            )
            for speaker in speakers
            if (voiceprint := self._select_voiceprint(speaker)) is not None
        ]

    def _select_voiceprint(self, speaker: Speaker) -> Voiceprint | None:
        """Select the voiceprint to compare, if the speaker can be verified with this model now."""
        if self._retention.state(speaker) is not SpeakerState.ENROLLED:
            return None
        voiceprint = self._succession.select(speaker.voiceprints)
        of_this_model = voiceprint and voiceprint.model_id == self.contract.model_id
        return voiceprint if of_this_model else None

    def _make_scale(self, embedding: Vector) -> Scale | None:
        """Make the scale of a test embedding `(dim,)`, if scores are normalized."""
        scorer = self._verifier.scorer
        return make_scale(scorer.statistics(embedding)) if scorer.normalizes else None


async def _take_unlocked(
    tenant: str, matches: Sequence[Match], count: int, is_locked: IsLocked | None
) -> tuple[Match, ...]:
    """Take the first `count` that are not locked: naming a speaker as a candidate answers a guess,
    as a verification does."""
    if is_locked is None:
        return tuple(matches[:count])
    unlocked: list[Match] = []
    for match in matches:
        if len(unlocked) == count:
            break
        if not await is_locked(tenant, match.speaker_id):
            unlocked.append(match)
    return tuple(unlocked)
