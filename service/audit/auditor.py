"""What rpcs record in the trail: changes as they happen, decisions before they are answered."""

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
    """Where a call comes from: its tenant, the name of its credential, and its request id."""

    tenant: str
    credential: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The entry of a change: its time in seconds since the epoch, the speaker's pseudonym and the
    entry's SHA-256, both in hexadecimal; empty without a trail."""

    at: float
    subject: str = ""
    digest: str = ""


@dataclass(slots=True)
class Change:
    """What the entry of a change will say; `receipt` is set once it has been written."""

    outcome: str = DONE
    reasons: tuple[str, ...] = ()
    model_id: str = ""
    detail: dict[str, str | int] = field(default_factory=dict)
    receipt: Receipt = Receipt(0.0)

    def set_outcome(self, outcome: str, reasons: Iterable[str] = (), *, model_id: str = "") -> None:
        self.outcome, self.reasons, self.model_id = outcome, tuple(reasons), model_id


class Auditor:
    """Records entries for the call that `origin` describes; without a `trail`, none.

    A change that cannot be recorded is never acknowledged. With `strict`, neither is a decision:
    recording it raises `Unavailable`.
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
    async def record_change(
        self, action: Action, speaker_id: str = "", **detail: str | int
    ) -> AsyncIterator[Change]:
        """Record BEGUN before a change, so that none can go unseen, and its outcome after it.

        The outcome is recorded even if the change raises. Raises `Unavailable` if either entry
        cannot be written.
        """
        event = self._make_event(action, BEGUN, speaker_id, self.origin(), detail)
        begun = await self._record(event)
        change = Change(detail=dict(detail) | ({"begun": begun.head.seq} if begun else {}))
        try:
            yield change
        except BaseException as error:
            with contextlib.suppress(Unavailable):
                await self._record(
                    replace(event, outcome=_name_outcome(error), detail=change.detail)
                )
            raise
        ended = replace(
            event,
            outcome=change.outcome,
            reasons=change.reasons,
            model_id=change.model_id,
            detail=change.detail,
        )
        change.receipt = self._make_receipt(await self._record(ended))

    async def record_decision(
        self,
        action: Action,
        decision: Decision,
        speaker_id: str = "",
        *,
        origin: Origin | None = None,
        **detail: str | int,
    ) -> None:
        """Record a decision; to be awaited before answering with it."""
        if decision.stamp is not None:
            detail = {"decision": decision.stamp.decision_id, **detail}
        event = self._make_event(
            action, decision.outcome.name, speaker_id, origin or self.origin(), detail
        )
        score, threshold = decision.score, decision.threshold
        await self._record_decision_event(
            replace(
                event,
                reasons=tuple(reason.name for reason in decision.reasons),
                model_id=decision.model_id,
                llr=score.llr if score else None,
                threshold_llr=threshold.llr if threshold else None,
            )
        )

    async def record_refusal(
        self, action: Action, why: str, speaker_id: str, origin: Origin
    ) -> None:
        """Record that a decision was not made, or not answered."""
        await self._record_decision_event(self._make_event(action, why, speaker_id, origin, {}))

    async def record_lock(self, speaker_id: str, origin: Origin, **detail: str | int) -> None:
        """Record that a speaker was locked."""
        await self._record_decision_event(
            self._make_event(Action.LOCK, DONE, speaker_id, origin, detail)
        )

    async def _record_decision_event(self, event: Event) -> None:
        try:
            await self._record(event)
        except Unavailable:
            if self._strict:
                raise

    async def _record(self, event: Event) -> Entry | None:
        return await self._trail.record(event) if self._trail is not None else None

    def _make_event(
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
            subject=self._trail.make_pseudonym(origin.tenant, speaker_id) if self._trail else "",
            request_id=origin.request_id,
            detail=detail,
        )

    def _make_receipt(self, entry: Entry | None) -> Receipt:
        if entry is None:
            return Receipt(self._clock())
        return Receipt(entry.at, entry.event.subject, entry.head.digest)


def _name_outcome(error: BaseException) -> str:
    """The outcome of a change that raised: the status that the caller gets."""
    if isinstance(error, SaysoError):
        return error.code.name
    return "INTERNAL" if isinstance(error, Exception) else "CANCELLED"
