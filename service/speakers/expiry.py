"""Expiry: erases the voices that nobody has used for too long, and none because a clock is wrong.

    noted a day ago ──> survey ──> expired then and now ──> plausible? ──> erased, and noted
    not noted ────────> noted                               └─ no ──> refused: log, metric, audit

A voice goes only if it had expired at two looks a day apart. The time of the first is kept in the
store, so that no restart forgets it, and one in the future is forgotten: a clock that was once
ahead erases nothing. One that stays ahead shows in the share of voices that would go at once, and
in the newest use in the store being long ago.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

from service.access import ANYONE, Caller, use_caller
from service.audit import Action, Auditor
from service.errors import Aborted, SaysoError
from service.observability import metrics
from service.speakers.lifecycle import Retention, expire, last_used_at
from service.store import SpeakerState, Store

log = logging.getLogger(__name__)

_DAY_S = 86_400.0
_APART_S = 0.95 * _DAY_S  # a clock that is set right by an hour between two looks is no matter
_QUIET_S = 7 * _DAY_S
_QUIET_SHARE = 1 / 12
_ALWAYS = 5
_PAGE = 200

Audit = Callable[[str], AbstractAsyncContextManager[object]]
"""Audits the erasure of a speaker's voice, which it is around."""


@dataclass(frozen=True, slots=True)
class Survey:
    """How many voices a tenant has, whose have expired, and when the newest use of any was, as far
    as it was not in the future. Times are seconds since the epoch, UTC."""

    voices: int
    expired: tuple[str, ...]
    newest_use: float


async def survey_voices(store: Store, tenant: str, retention: Retention, *, since: float) -> Survey:
    """`expired` are those that had expired at `since`, and still have."""
    now, voices, newest = retention.clock(), 0, -math.inf
    gone: list[str] = []
    after = None
    while True:
        page = await store.list(tenant, limit=_PAGE, after=after)
        for speaker in filter(lambda speaker: speaker.voiceprints, page.speakers):
            voices += 1
            used_at = last_used_at(speaker)
            newest = max(newest, used_at) if used_at <= now else newest
            if retention.expires_at(speaker) <= min(since, now):
                gone.append(speaker.speaker_id)
        if page.next_after is None:
            return Survey(voices, tuple(gone), newest)
        after = page.next_after


async def erase(
    store: Store, tenant: str, survey: Survey, retention: Retention, *, audit: Audit
) -> int:
    """How many voices were erased, each inside `audit` of its speaker's id; one that was used or
    changed since the survey is not."""
    erased = 0
    for speaker_id in survey.expired:
        speaker = await store.get(tenant, speaker_id)
        if speaker is None or retention.state(speaker) is not SpeakerState.EXPIRED:
            continue
        with contextlib.suppress(Aborted):
            async with audit(speaker_id):
                left = expire(speaker, now=retention.clock())
                await store.put(left, expected_etag=speaker.etag)
            erased += 1
    return erased


class Expiry:
    """Runs for as long as the server does; at most `max_share` of a tenant's voices, or five of
    them, go at once."""

    def __init__(
        self, store: Store, retention: Retention, auditor: Auditor, *, max_share: float
    ) -> None:
        self._store = store
        self._retention = retention
        self._auditor = auditor
        self._max_share = max_share

    async def run(self) -> None:
        """Sweeps when it starts and once a day; what a sweep cannot reach waits for the next."""
        while math.isfinite(self._retention.expire_after_s):
            try:
                await self.sweep()
            except SaysoError as error:
                log.error("expired voices were not looked for: %s", error)
            await asyncio.sleep(_DAY_S)

    async def sweep(self) -> None:
        """One tenant whose voices cannot be looked through does not keep the others waiting."""
        looked_at = {tenant: await self._ripe(tenant) for tenant in await self._store.tenants()}
        if all(since is None for since in looked_at.values()):
            return
        surveys = {tenant: await self._survey(tenant, since) for tenant, since in looked_at.items()}
        newest = max((one.newest_use for one in surveys.values() if one), default=-math.inf)
        for tenant, survey in surveys.items():
            if survey is None or looked_at[tenant] is None:
                continue
            with use_caller(Caller(tenant, ANYONE.roles, "server")):
                await self._settle(tenant, survey, newest)

    async def _ripe(self, tenant: str) -> float | None:
        """When its voices were looked at, if that is a day ago; notes that they are, if never."""
        now, before = self._retention.clock(), await self._store.swept_at(tenant)
        if before is None or before > now:
            await self._store.note_sweep(tenant, at=now)
            return None
        return before if now - before >= _APART_S else None

    async def _survey(self, tenant: str, since: float | None) -> Survey | None:
        try:
            return await survey_voices(
                self._store, tenant, self._retention, since=-math.inf if since is None else since
            )
        except SaysoError as error:
            log.error("voices of tenant %s were not looked through: %s", tenant, error)
            return None

    async def _settle(self, tenant: str, survey: Survey, newest: float) -> None:
        try:
            if survey.expired and (refusal := self._refusal(tenant, survey, newest)):
                await self._refuse(refusal)
                return
            now = self._retention.clock()
            erased = await erase(self._store, tenant, survey, self._retention, audit=self._audit)
            await self._store.note_sweep(tenant, at=now)
        except SaysoError as error:
            log.error("expired voices of tenant %s were not erased: %s", tenant, error)
            return
        if erased:
            metrics.count_expired(erased)
            log.info("erased %d expired voices of tenant %s", erased, tenant)

    def _refusal(self, tenant: str, survey: Survey, newest: float) -> tuple[str, str] | None:
        """Its name and what the operator is told."""
        now, due = self._retention.clock(), len(survey.expired)
        quiet_s = max(_QUIET_S, _QUIET_SHARE * self._retention.expire_after_s)
        ending = f"if they are to go, run `sayso tenants expire {tenant}`"
        if now - newest > quiet_s:
            return "CLOCK_AHEAD", (
                f"the clock says {_date(now)}, and no voice in the store was used after "
                f"{_date(newest)}: it may be ahead, so none of the {due} voices of tenant {tenant} "
                f"that would expire is erased; mend the clock or, {ending}"
            )
        if due > max(_ALWAYS, math.floor(self._max_share * survey.voices)):
            return "TOO_MANY_AT_ONCE", (
                f"{due} of {survey.voices} voices of tenant {tenant} would expire at once, more "
                f"than SAYSO_EXPIRE_MAX_SHARE allows, so none is erased; {ending}"
            )
        return None

    async def _refuse(self, refusal: tuple[str, str]) -> None:
        reason, text = refusal
        metrics.count_expiry_refusal(reason)
        log.error("%s", text)
        await self._auditor.record_refusal(Action.EXPIRE, reason, "", self._auditor.origin())

    def _audit(self, speaker_id: str) -> AbstractAsyncContextManager[object]:
        return self._auditor.record_change(Action.EXPIRE, speaker_id)


def _date(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" if math.isfinite(at) else "the beginning"
