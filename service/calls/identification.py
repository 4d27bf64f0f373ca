"""Identification: who of a group is speaking, or that it is none of them.

    utterance -> matches with each model -> the best one -> decision

The open set (Grother and Phillips 2004): the best of N voices is accepted only if it would be
accepted with the chance of error spread over all N, so a group may grow without more strangers
being taken for a member.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from service.calls.group_index import GroupIndex
from service.calls.matching import GroupMatcher, IsLocked, rank_by_llr
from service.contract import Contract
from service.decisions.decision import (
    Decision,
    Outcome,
    choose_band,
    decide,
    decide_early,
    decide_inconclusive,
    list_shortcomings,
)
from service.decisions.match import Match
from service.decisions.named_policies import MAX_WATCHLISTS
from service.decisions.policy import Policy, SequentialTest
from service.decisions.stamp import DecisionStamper
from service.decisions.thresholds import choose_threshold_among
from service.errors import InvalidArgument, Unavailable
from service.inference.embedder import Utterance
from service.speakers.lifecycle import Retention
from service.speakers.voiceprints import ModelSuccession
from service.store import Store

MAX_CANDIDATES = 100
_MAX_VOICES = 2_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identification:
    """ACCEPTED: the first of `candidates` is speaking; they are sorted by falling llr."""

    decision: Decision
    candidates: tuple[Match, ...] = ()

    def stamp(self, stamper: DecisionStamper) -> "Identification":
        """Return the identification with its decision stamped."""
        return replace(self, decision=stamper.stamp(self.decision))


class Identifier:
    """Searches groups. Used under `async with`.

    `policy` is the server's own; `retention` says whose voice has expired. During an upgrade,
    speakers not yet migrated are searched with the `previous` model's identifier, and the results
    of both are ranked by llr; `succession` says with which model a speaker is compared. A locked
    speaker is not identified.
    """

    def __init__(
        self,
        store: Store,
        contract: Contract,
        *,
        policy: Policy,
        retention: Retention,
        max_voices: int = _MAX_VOICES,
        succession: ModelSuccession | None = None,
        previous: "Identifier | None" = None,
        is_locked: IsLocked | None = None,
    ) -> None:
        self._matcher = GroupMatcher(
            store,
            contract,
            policy=policy,
            retention=retention,
            succession=succession or ModelSuccession((contract.model_id,)),
            max_voices=max_voices,
        )
        earlier = () if previous is None else previous._matchers
        self._matchers: tuple[GroupMatcher, ...] = (self._matcher, *earlier)
        self._store = store
        self._retention = retention
        self._is_locked = is_locked

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._matcher.close()

    async def prepare(self, tenant: str, groups: Iterable[str]) -> None:
        """Read the groups that a stream will search; raises `NotFound` for an unknown group."""
        for group in dict.fromkeys(groups):
            await self._open_indexes(tenant, group)

    async def identify(
        self, tenant: str, group: str, utterance: Utterance, policy: Policy, max_candidates: int
    ) -> Identification:
        """Decide who of the group is speaking, by the policy's criterion corrected for the size of
        the group.

        Raises `NotFound` for an unknown group, `FailedPrecondition` if the model has no
        calibration.
        """
        return await self._identify(tenant, group, utterance, policy, max_candidates, None)

    async def identify_so_far(
        self, tenant: str, group: str, utterance: Utterance, policy: Policy, max_candidates: int
    ) -> Identification:
        """As `identify` while more speech may come: sequential if the policy says so, with its
        false-match rate divided among the group."""
        test = policy.sequential
        ended = test is None or utterance.quality.net_speech_s >= test.max_speech_s
        return await self._identify(
            tenant, group, utterance, policy, max_candidates, None if ended else test
        )

    async def screen(
        self, tenant: str, groups: Sequence[str], utterance: Utterance
    ) -> tuple[Match, ...]:
        """Find the members of these groups that the voice is accepted as, by falling llr; none if
        the audio does not allow a decision.

        Decides by the server's own policy, whatever a request asked: a strict one would hide
        matches. A match counts as a use of the voice. Raises as `identify` does, and
        `InvalidArgument` for too many groups.
        """
        names = list(dict.fromkeys(groups))
        if len(names) > MAX_WATCHLISTS:
            raise InvalidArgument(f"more than {MAX_WATCHLISTS} groups", field="watchlists")
        policy = self._require_speech(self._matcher.policy)
        indexes = [await self._open_indexes(tenant, group) for group in names]
        if not names or list_shortcomings(utterance.quality, policy.gate):
            return ()
        matches: list[Match] = []
        for group_indexes in indexes:
            voices = sum(map(len, group_indexes))
            for matcher, index in zip(self._matchers, group_indexes, strict=True):
                threshold = choose_threshold_among(voices, policy, matcher.calibration)
                matches += await matcher.find_matches(
                    index, utterance, MAX_CANDIDATES, min_llr=threshold.llr
                )
        await self._note_use(tenant, matches)
        return tuple(sorted(matches, key=rank_by_llr))

    async def _identify(
        self,
        tenant: str,
        group: str,
        utterance: Utterance,
        policy: Policy,
        max_candidates: int,
        test: SequentialTest | None,
    ) -> Identification:
        count = check_candidates(max_candidates)
        policy = self._require_speech(policy)
        indexes = await self._open_indexes(tenant, group)
        voices = sum(map(len, indexes))
        results = [
            await self._identify_with(matcher, index, voices, utterance, policy, count, test)
            for matcher, index in zip(self._matchers, indexes, strict=True)
        ]
        return _merge(results, count)

    async def _identify_with(
        self,
        matcher: GroupMatcher,
        index: GroupIndex,
        voices: int,
        utterance: Utterance,
        policy: Policy,
        count: int,
        test: SequentialTest | None,
    ) -> Identification:
        """Identify with one model only, at the error rate that the policy allows for all `voices`
        of all models."""
        quality, model_id = utterance.quality, matcher.contract.model_id
        threshold = choose_threshold_among(voices, policy, matcher.calibration)
        if reasons := list_shortcomings(quality, policy.gate):
            return Identification(decide_inconclusive(reasons, quality, policy.gate, model_id))
        matches = await matcher.find_matches(index, utterance, count, is_locked=self._is_locked)
        if not matches:
            nobody = "no enrolled voice is in the group"
            return Identification(
                Decision(Outcome.REJECTED, model_id, nobody, threshold=threshold, quality=quality)
            )
        score = matches[0].score
        own = choose_threshold_among(voices, matcher.policy, matcher.calibration)
        if score.llr >= own.llr and not list_shortcomings(quality, matcher.policy.gate):
            await self._note_use(index.tenant, matches[:1])
        if test is not None:
            shared = replace(test, false_match_rate=test.false_match_rate / max(voices, 1))
            # A caller who may not see scores gets no lower bound: no lock limits how often a
            # search is repeated to find out where it is.
            blind = policy.at_least is not None
            decision = decide_early(
                *(score, shared, quality, model_id), least=own if blind else None, rejects=not blind
            )
        else:
            decision = decide(score, threshold, quality, model_id)
        return Identification(replace(decision, band=choose_band(score, own)), matches)

    async def _note_use(self, tenant: str, matches: Iterable[Match]) -> None:
        """Keep voices that are still being matched from expiring. If the store is full or away,
        only log it: the match stands."""
        try:
            for match in matches:
                if not match.use_noted:
                    at = self._retention.clock()
                    await self._store.touch(tenant, match.speaker_id, match.model_id, at=at)
        except Unavailable as error:
            log.warning("a match was not noted as use: %s", error)

    async def _open_indexes(self, tenant: str, group: str) -> list[GroupIndex]:
        """Return the group's index of each model."""
        return [await matcher.open_index(tenant, group) for matcher in self._matchers]

    def _require_speech(self, policy: Policy) -> Policy:
        """Return the policy with a gate that asks for the net speech that every model needs."""
        needed_s = max(matcher.contract.min_speech_s for matcher in self._matchers)
        return replace(policy, gate=policy.gate.require_speech(needed_s))


def _merge(results: Sequence[Identification], count: int) -> Identification:
    """Merge the results of several models; the decision is on the candidate with the best llr."""
    if len(results) == 1:
        return results[0]
    best = max(results, key=_best_llr)
    candidates = (match for result in results for match in result.candidates)
    return Identification(best.decision, tuple(sorted(candidates, key=rank_by_llr)[:count]))


def _best_llr(result: Identification) -> float:
    return max((match.score.llr for match in result.candidates), default=-math.inf)


def check_candidates(count: int, *, field: str = "max_candidates") -> int:
    """Return the count if a search can return as many; raises `InvalidArgument` otherwise."""
    if not 1 <= count <= MAX_CANDIDATES:
        raise InvalidArgument(f"must be 1 to {MAX_CANDIDATES}", field=field)
    return count
