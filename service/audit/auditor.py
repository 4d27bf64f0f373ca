"""What the rpcs tell the trail: changes around what they do, decisions before they are told."""

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from service.audit.entries import Action, Entry, Event
from service.audit.trail import Trail
from service.decisions.decision import Decision
from service.errors import SaysoError, Unavailable

BEGUN = "BEGUN"
DONE = "DONE"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a call comes from: its tenant, what names its credential, and its request id."""

    tenant: str
    credential: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where the trail tells of a change, `at` in seconds since the epoch: the speaker's pseudonym
    and the SHA-256 of the entry, in hexadecimal; empty without a trail."""

    at: float
    subject: str = ""
    digest: str = ""


@dataclass(slots=True)
class Change:
    """What is to be said of a change; `receipt` is there once it is in the trail."""

    outcome: str = DONE
    reasons: tuple[str, ...] = ()
    model_id: str = ""
    detail: dict[str, str | int] = field(default_factory=dict)
    receipt: Receipt = Receipt(0.0)

    def came_to(self, outcome: str, reasons: Iterable[str] = (), *, model_id: str = "") -> None:
        self.outcome, self.reasons, self.model_id = outcome, tuple(reasons), model_id


class Auditor:
    """Enters for the call that `origin` tells of; without a `trail` it enters nothing.

    With `strict` a decision that cannot be entered is not told: `Unavailable`. A change that cannot
    be entered is never acknowledged.
    """

    def __init__(
        self,
        trail: Trail | None,
        *,
        origin: Callable[[], Origin],
        strict: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._trail = trail
        self.origin = origin
        self._strict = strict
        self._clock = clock

    @asynccontextmanager
    async def changing(
        self, action: Action, speaker_id: str = "", **detail: str | int
    ) -> AsyncIterator[Change]:
        """Around a change: an entry that it has BEGUN, so that none is made unseen, and one of what
        came of it, also where it raises. Raises `Unavailable` when either cannot be entered."""
        event = self._event(action, BEGUN, speaker_id, self.origin(), detail)
        begun = await self._record(event)
        change = Change(detail=dict(detail) | ({"begun": begun.head.seq} if begun else {}))
        try:
            yield change
        except BaseException as error:
            with contextlib.suppress(Unavailable):
                await self._record(replace(event, outcome=_name(error), detail=change.detail))
            raise
        ended = replace(
            event,
            outcome=change.outcome,
            reasons=change.reasons,
            model_id=change.model_id,
            detail=change.detail,
        )
        change.receipt = self._receipt(await self._record(ended))

    async def done(self, action: Action, speaker_id: str = "", **detail: str | int) -> None:
        """One entry of what was already done, by the server or one who waits for nothing."""
        await self._record(self._event(action, DONE, speaker_id, self.origin(), detail))

    async def decided(
        self,
        action: Action,
        decision: Decision,
        speaker_id: str = "",
        *,
        origin: Origin | None = None,
        **detail: str | int,
    ) -> None:
        """To be awaited before the decision is told."""
        event = self._event(
            action, decision.outcome.name, speaker_id, origin or self.origin(), detail
        )
        score, threshold = decision.score, decision.threshold
        await self._lenient(
            replace(
                event,
                reasons=tuple(reason.name for reason in decision.reasons),
                model_id=decision.model_id,
                llr=score.llr if score else None,
                threshold_llr=threshold.llr if threshold else None,
            )
        )

    async def refused(self, action: Action, why: str, speaker_id: str, origin: Origin) -> None:
        """A decision that was not made, or not told."""
        await self._lenient(self._event(action, why, speaker_id, origin, {}))

    async def locked(self, speaker_id: str, origin: Origin, **detail: str | int) -> None:
        await self._lenient(self._event(Action.LOCK, DONE, speaker_id, origin, detail))

    async def _lenient(self, event: Event) -> None:
        try:
            await self._record(event)
        except Unavailable:
            if self._strict:
                raise

    async def _record(self, event: Event) -> Entry | None:
        return await self._trail.record(event) if self._trail is not None else None

    def _event(
        self,
        action: Action,
        outcome: str,
        speaker_id: str,
        origin: Origin,
        detail: Mapping[str, str | int],
    ) -> Event:
        return Event(
            action,
            outcome,
            tenant=origin.tenant,
            credential=origin.credential,
            subject=self._trail.subject(origin.tenant, speaker_id) if self._trail else "",
            request_id=origin.request_id,
            detail=detail,
        )

    def _receipt(self, entry: Entry | None) -> Receipt:
        if entry is None:
            return Receipt(self._clock())
        return Receipt(entry.at, entry.event.subject, entry.head.digest)


def _name(error: BaseException) -> str:
    """How the trail calls what ended a change: as its status on the wire."""
    if isinstance(error, SaysoError):
        return error.code.name
    return "INTERNAL" if isinstance(error, Exception) else "CANCELLED"
