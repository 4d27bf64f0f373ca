"""Screening: what groups say of one call's voice, beside the claim and on the same embeddings.

utterance ─┬─> watchlists ─> members whom the voice matches
           └─> one group ──> who of it is speaking, or that nobody is
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from service.calls.identification import Identification, Identifier, Match, candidates
from service.decisions.decision import Policy
from service.inference.embedder import Utterance

_Identify: TypeAlias = Callable[[str, str, Utterance, Policy, int], Awaitable[Identification]]


@dataclass(frozen=True, slots=True)
class Findings:
    """Matches on watchlists by falling log-likelihood ratio; `identification` is None where no
    group was to be searched."""

    matches: tuple[Match, ...] = ()
    identification: Identification | None = None


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
        self._max_candidates = candidates(max_candidates, field="config.max_candidates")
        self._reached: Identification | None = None

    @property
    def asked(self) -> bool:
        """Whether there is anything to search."""
        return bool(self._watchlists or self._group)

    @property
    def decided(self) -> bool:
        """Whether a conclusive identification was reached."""
        return self._reached is not None

    async def prepare(self) -> None:
        """Reads the groups; raises NotFound for one that there is not."""
        groups = (*self._watchlists, *filter(None, [self._group]))
        await self._identifier.prepare(self._tenant, groups)

    async def so_far(self, heard: Utterance) -> Findings:
        """On the speech so far, while more may come."""
        return await self._findings(heard, self._identifier.so_far)

    async def finish(self, heard: Utterance) -> Findings:
        """On the whole call."""
        return await self._findings(heard, self._identifier.identify)

    async def _findings(self, heard: Utterance, identify: _Identify) -> Findings:
        matches = await self._identifier.screen(self._tenant, self._watchlists, heard)
        if not self._group:
            return Findings(matches)
        if self._reached is not None and self._policy.sequential is not None:
            return Findings(matches, self._reached)
        found = await identify(self._tenant, self._group, heard, self._policy, self._max_candidates)
        if self._reached is None and found.decision.conclusive:
            self._reached = found
        return Findings(matches, found)
