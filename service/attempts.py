"""An attempt: one claim to be a speaker, from the first question to the last, locked and audited.

open ── locked ──> Locked        tell ── a first acceptance, locked meanwhile ──> Locked
  └─ tell ... tell ─ settle ──> counted, entered, then told
        └─ left without settle: counted as failed unless the last that was told accepted
"""

import logging
from typing import Self

from service.audit import Action, Auditor, Origin
from service.decision import Decision, Outcome
from service.errors import SaysoError
from service.lockout import Locked, Lockout

_LOCKED = "LOCKED"

log = logging.getLogger(__name__)


class Attempts:
    """Opens attempts of one server; `speaker_id` is empty where nobody is claimed, and nothing can
    be locked."""

    def __init__(self, lockout: Lockout, auditor: Auditor) -> None:
        self._lockout = lockout
        self._auditor = auditor

    def open(self, speaker_id: str) -> "Attempt":
        """One of the call in progress; enter it with `async with`."""
        return Attempt(self._lockout, self._auditor, self._auditor.origin(), speaker_id)


class Attempt:
    """One call's claim. Who is told a score and leaves has failed: else scores could be had, and
    improved upon, without ever failing.

    To enter it raises `Locked`, and `Unavailable` where the store cannot say whether it is.
    """

    def __init__(self, lockout: Lockout, auditor: Auditor, origin: Origin, speaker_id: str) -> None:
        self._lockout = lockout
        self._auditor = auditor
        self._origin = origin
        self._speaker_id = speaker_id
        self._told: Decision | None = None
        self._settled = False

    async def __aenter__(self) -> Self:
        await self.check()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.abandon()

    async def check(self) -> None:
        """Raises `Locked` while the speaker is."""
        if not self._speaker_id:
            return
        try:
            await self._lockout.check(self._origin.tenant, self._speaker_id)
        except Locked:
            await self._refused()
            raise

    async def tell(self, decision: Decision) -> None:
        """To be awaited before a decision on the way is told; raises as `check`."""
        accepted = decision.outcome is Outcome.ACCEPTED
        if accepted and (self._told is None or self._told.outcome is not Outcome.ACCEPTED):
            await self.check()
        self._told = decision

    async def settle(self, decision: Decision, **detail: str | int) -> None:
        """To be awaited before the last decision is told or acted upon; raises as `check`, and
        `Unavailable` where it can neither be counted nor entered."""
        locked = await self._note(decision.outcome)
        self._settled = True  # a call that is cancelled before has yet to be counted
        await self._enter(decision, **detail)
        if locked:
            await self._auditor.locked(self._speaker_id, self._origin)

    async def abandon(self) -> None:
        """After an attempt that was not settled; raises nothing."""
        told = self._told
        if self._settled or told is None:
            return
        self._settled = True
        failed = told.score is not None and told.outcome is not Outcome.ACCEPTED
        try:
            locked = await self._note(Outcome.REJECTED) if failed else False
            await self._enter(told, abandoned=1)
            if locked:
                await self._auditor.locked(self._speaker_id, self._origin)
        except Locked:
            pass  # by other calls, and entered
        except SaysoError as error:
            log.error("an abandoned verification was not counted: %s", error)

    async def _note(self, outcome: Outcome) -> bool:
        if not self._speaker_id:
            return False
        try:
            return await self._lockout.note(self._origin.tenant, self._speaker_id, outcome)
        except Locked:
            await self._refused()
            raise

    async def _enter(self, decision: Decision, **detail: str | int) -> None:
        await self._auditor.decided(
            Action.VERIFY, decision, self._speaker_id, origin=self._origin, **detail
        )

    async def _refused(self) -> None:
        self._settled = True
        await self._auditor.refused(Action.VERIFY, _LOCKED, self._speaker_id, self._origin)
