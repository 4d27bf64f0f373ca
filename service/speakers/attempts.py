"""An attempt: one claim to be a speaker, from the first question to the last, locked and audited.

open ── locked ──> SpeakerLocked
  └─ tell ... tell ─ settle ──> counted, entered, then told
        │               └─ locked meanwhile ──> SpeakerLocked, as at each `tell`
        └─ left without settle ──> failed if the last decision was below the server's threshold,
                                   unless the server itself ended the call
"""

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable
from typing import Self

from service.audit import Action, Auditor, Origin
from service.decisions.decision import Decision
from service.errors import OverLimit, Overloaded, SaysoError, SpeakerLocked, Unavailable
from service.speakers.lockout import Lockout
from service.store import Tally

_LOCKED = "LOCKED"
_CONCLUDE_S = 5.0

log = logging.getLogger(__name__)

Observe = Callable[[str], None]
"""Is told `locked`, `disabled` or `refused`, each time that a speaker or an attempt is."""


class Attempts:
    """Opens attempts of one server; `speaker_id` is empty where nobody is claimed, and nothing can
    be locked."""

    def __init__(
        self, lockout: Lockout, auditor: Auditor, *, observe: Observe = lambda event: None
    ) -> None:
        self._lockout = lockout
        self._auditor = auditor
        self._observe = observe
        self._draining = False
        self._open = 0
        self._failing = Counter[tuple[str, str]]()
        self._none_open = asyncio.Event()
        self._none_open.set()

    def open(self, speaker_id: str) -> "Attempt":
        """One of the call in progress; enter it with `async with`."""
        return Attempt(self, self._auditor.origin(), speaker_id)

    def drain(self) -> None:
        """From now on it may be the server that ends a call, so that leaving counts no more."""
        self._draining = True

    async def concluded(self) -> None:
        """Waits for the calls that a drain has cut off to be entered, before store and trail close;
        not for ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CONCLUDE_S):
                await self._none_open.wait()

    def began(self) -> None:
        self._open += 1
        self._none_open.clear()

    def ended(self) -> None:
        self._open -= 1
        if not self._open:
            self._none_open.set()

    def ended_by_server(self, error: BaseException | None) -> bool:
        """Whether a call that ends by `error` ends for reasons that its caller has no hand in."""
        overloaded = isinstance(error, Overloaded) and not isinstance(error, OverLimit)
        return self._draining or overloaded or isinstance(error, Unavailable)

    async def check(self, origin: Origin, speaker_id: str) -> float:
        """As `Lockout.check`; what is refused is entered."""
        try:
            return await self._lockout.check(origin.tenant, speaker_id)
        except SpeakerLocked:
            await self._refused(origin, speaker_id)
            raise

    def failing(self, origin: Origin, speaker_id: str) -> int:
        """How many calls in progress would have failed if they ended now."""
        return self._failing[origin.tenant, speaker_id]

    def begin_failing(self, origin: Origin, speaker_id: str) -> None:
        self._failing[origin.tenant, speaker_id] += 1

    def end_failing(self, origin: Origin, speaker_id: str) -> None:
        self._failing[origin.tenant, speaker_id] -= 1
        self._failing += Counter()  # keeps only those that are above 0

    async def note(self, origin: Origin, speaker_id: str, met: bool | None) -> Tally | None:
        """As `Lockout.note`; what is refused is entered."""
        try:
            return await self._lockout.note(origin.tenant, speaker_id, met)
        except SpeakerLocked:
            await self._refused(origin, speaker_id)
            raise

    async def enter(
        self, origin: Origin, speaker_id: str, decision: Decision, **detail: str | int
    ) -> None:
        """Enters a decision on a claim into the trail."""
        await self._auditor.decided(Action.VERIFY, decision, speaker_id, origin=origin, **detail)

    async def locked(self, origin: Origin, speaker_id: str, tally: Tally) -> None:
        """Tells log, metric and trail that a failure has locked the speaker."""
        if tally.disabled:
            log.warning(
                "a speaker is disabled after %d failed verifications: `sayso speakers unlock` "
                "enables it again",
                tally.total,
            )
        else:
            wait_s = tally.locked_until - tally.failed_at
            log.warning(
                "a speaker is locked for %.0f s after %d failed verifications in a row",
                wait_s,
                tally.consecutive,
            )
        self._observe("disabled" if tally.disabled else "locked")
        detail = {
            "in_a_row": tally.consecutive,
            "in_all": tally.total,
            "disabled": int(tally.disabled),
        }
        await self._auditor.locked(speaker_id, origin, **detail)

    async def _refused(self, origin: Origin, speaker_id: str) -> None:
        self._observe("refused")
        await self._auditor.refused(Action.VERIFY, _LOCKED, speaker_id, origin)


class Attempt:
    """One call's claim, counted once, however it ends. A caller who leaves after a decision below
    the server's threshold has failed; otherwise an attacker could climb on scores without ever
    being locked out.

    To enter it raises `SpeakerLocked`, and `Unavailable` where the store cannot say whether it is.
    """

    def __init__(self, attempts: Attempts, origin: Origin, speaker_id: str) -> None:
        self._attempts = attempts
        self._origin = origin
        self._speaker_id = speaker_id
        self._told: Decision | None = None
        self._met: bool | None = None  # of the last decision that compared anything
        self._failing = False
        self._settled = False

    async def __aenter__(self) -> Self:
        await self._check()
        self._attempts.began()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            await self.abandon(by_server=self._attempts.ended_by_server(error))
        finally:
            self._note_failing(False)
            self._attempts.ended()

    async def tell(self, decision: Decision) -> bool:
        """Whether a decision on the way may be told; to be awaited before it is. Raises
        `SpeakerLocked` if the speaker is by now.

        It may not while the store is away, which ends no call, nor if the speaker would be locked
        had the other calls in progress ended already: else scores could be had from many at once.
        """
        try:
            left = await self._check()
        except Unavailable as error:
            log.debug("an answer is kept back: %s", error)
            return False
        met = decision.meets_server_policy
        others = self._attempts.failing(self._origin, self._speaker_id) - self._failing
        if met is False and not self._failing and others >= left:
            return False
        self._told = decision
        if met is not None:
            self._met = met
            self._note_failing(not met)
        return True

    async def settle(self, decision: Decision, **detail: str | int) -> None:
        """To be awaited before the last decision is told or acted upon; raises `SpeakerLocked`, and
        `Unavailable` where it can neither be counted nor entered."""
        met = decision.meets_server_policy
        if met is None and self._met is False:
            met = False  # what cannot be judged at the end takes no failure back
        tally = await self._note(met)
        self._settled = True  # a call that is cancelled before has yet to be counted
        await self._attempts.enter(self._origin, self._speaker_id, decision, **detail)
        if tally is not None:
            await self._attempts.locked(self._origin, self._speaker_id, tally)

    async def abandon(self, *, by_server: bool = False) -> None:
        """After an attempt that was not settled; raises nothing."""
        told = self._told
        if self._settled or told is None:
            return
        self._settled = True
        failed = self._met is False and not by_server
        detail = {"interrupted" if by_server else "abandoned": 1}
        try:
            tally = await self._note(False) if failed else None
            await self._attempts.enter(self._origin, self._speaker_id, told, **detail)
            if tally is not None:
                await self._attempts.locked(self._origin, self._speaker_id, tally)
        except SpeakerLocked:
            pass  # by other calls, and entered
        except SaysoError as error:
            log.error("an abandoned verification was not counted: %s", error)

    def _note_failing(self, failing: bool) -> None:
        if failing and not self._failing:
            self._attempts.begin_failing(self._origin, self._speaker_id)
        if self._failing and not failing:
            self._attempts.end_failing(self._origin, self._speaker_id)
        self._failing = failing

    async def _check(self) -> float:
        if not self._speaker_id:
            return math.inf
        try:
            return await self._attempts.check(self._origin, self._speaker_id)
        except SpeakerLocked:
            self._settled = True
            raise

    async def _note(self, met: bool | None) -> Tally | None:
        if not self._speaker_id:
            return None
        try:
            return await self._attempts.note(self._origin, self._speaker_id, met)
        except SpeakerLocked:
            self._settled = True
            raise
