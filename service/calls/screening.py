"""Screening: searches groups for one call's voice, beside the claim and on the same embeddings.

utterance ─┬─> watchlists ─> members whom the voice matches
           └─> one group ──> the member who is speaking, or that none is
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from service.calls.identification import Identification, Identifier, check_candidates
from service.calls.matching import Match
from service.decisions.policy import Policy
from service.inference.embedder import Utterance

_Identify: TypeAlias = Callable[[str, str, Utterance, Policy, int], Awaitable[Identification]]


@dataclass(frozen=True, slots=True)
class Findings:
    """Matches on watchlists by falling log-likelihood ratio; `identification` is None if no group
    was to be searched."""

    matches: tuple[Match, ...] = ()
    identification: Identification | None = None


NO_FINDINGS = Findings()


class Screening:
    """One call against the watchlists and the group of its request.

    A sequential identification, once reached, stands; a fixed one follows all the speech there is.
    Raises `InvalidArgument` for more candidates than a search gives.
    """

    def __init__(
        self,
        identifier: Identifier,
        tenant: str,
        policy: Policy,
        *,
        watchlists: Sequence[str] = (),
        group: str = "",
        max_candidates: int = 1,
    ) -> None:
        self._identifier = identifier
        self._tenant = tenant
        self._policy = policy
        self._watchlists = watchlists
        self._group = group
        self._max_candidates = check_candidates(max_candidates, field="config.max_candidates")
        self._reached: Identification | None = None

    @property
    def decided(self) -> bool:
        """Whether a conclusive identification was reached."""
        return self._reached is not None

    async def prepare(self) -> None:
        """Reads the groups; raises NotFound for one that there is not."""
        groups = (*self._watchlists, *filter(None, [self._group]))
        await self._identifier.prepare(self._tenant, groups)

    async def search_so_far(self, utterance: Utterance) -> Findings:
        """On the speech so far, while more may come."""
        return await self._search(utterance, self._identifier.identify_so_far)

    async def finish(self, utterance: Utterance) -> Findings:
        """On the whole call."""
        return await self._search(utterance, self._identifier.identify)

    async def _search(self, utterance: Utterance, identify: _Identify) -> Findings:
        tenant = self._tenant
        matches: tuple[Match, ...] = ()
        if self._watchlists:
            matches = await self._identifier.screen(tenant, self._watchlists, utterance)
        if not self._group:
            return Findings(matches)
        if self._reached is not None and self._policy.sequential is not None:
            return Findings(matches, self._reached)
        identification = await identify(
            tenant, self._group, utterance, self._policy, self._max_candidates
        )
        if self._reached is None and identification.decision.conclusive:
            self._reached = identification
        return Findings(matches, identification)
