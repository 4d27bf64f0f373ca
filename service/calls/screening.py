"""Screening: search groups for the voice of a call, with the embeddings that also decide its claim.

utterance ─┬─> watchlists ─> members whom the voice matches
           └─> one group ──> the member who is speaking, or nobody
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from service.calls.identification import Identification, Identifier, check_candidates
from service.decisions.match import Match
from service.decisions.policy import Policy
from service.decisions.stamp import DecisionStamper
from service.inference.embedder import Utterance

_Identify: TypeAlias = Callable[[str, str, Utterance, Policy, int], Awaitable[Identification]]


@dataclass(frozen=True, slots=True)
class Findings:
    """Matches on watchlists by falling llr; `identification` is None if the request named no group
    to identify the speaker in."""

    matches: tuple[Match, ...] = ()
    identification: Identification | None = None


NO_FINDINGS = Findings()


class Screening:
    """One call against the watchlists and the group of its request.

    The first conclusive sequential identification is final; a fixed one is made again on all the
    speech so far. Raises `InvalidArgument` for more candidates than a search returns.
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
        self._conclusive: Identification | None = None
        self._stamper = DecisionStamper()

    @property
    def is_decided(self) -> bool:
        """Whether there was a conclusive identification."""
        return self._conclusive is not None

    async def prepare(self) -> None:
        """Read the groups; raises `NotFound` for one that does not exist."""
        groups = (*self._watchlists, *filter(None, [self._group]))
        await self._identifier.prepare(self._tenant, groups)

    async def search_so_far(self, utterance: Utterance) -> Findings:
        """Search with the speech so far, while more may come."""
        return await self._search(utterance, self._identifier.identify_so_far)

    async def finish(self, utterance: Utterance) -> Findings:
        """Search with the speech of the whole call."""
        return await self._search(utterance, self._identifier.identify)

    async def _search(self, utterance: Utterance, identify: _Identify) -> Findings:
        tenant = self._tenant
        matches: tuple[Match, ...] = ()
        if self._watchlists:
            matches = await self._identifier.screen(tenant, self._watchlists, utterance)
        if not self._group:
            return Findings(matches)
        if self._conclusive is not None and self._policy.sequential is not None:
            return Findings(matches, self._conclusive)
        identification = await identify(
            tenant, self._group, utterance, self._policy, self._max_candidates
        )
        identification = identification.stamp(self._stamper)
        if self._conclusive is None and identification.decision.conclusive:
            self._conclusive = identification
        return Findings(matches, identification)
