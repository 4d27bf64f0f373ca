"""Expiry: erases voices that nobody has used for too long, but none because a clock is wrong.

    swept a day ago ──> survey ──> expired then and now ──> plausible? ──> erase, note the sweep
    never swept ──────> note the sweep                          └─ no ──> refuse: log, metric, audit

A voice is erased only if it had expired at two sweeps a day apart. The store keeps the time of the
first, so that it survives a restart; a time in the future is discarded, so that a clock that was
ahead for a while erases nothing. A clock that stays ahead is noticed because too many voices would
expire at once, or because the newest use in the store is long ago.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from service.access import ANYONE, Caller, use_caller
from service.audit import Action, Auditor
from service.errors import Aborted, SaysoError
from service.events import Event, EventType, Publish, publish_nothing
from service.observability import metrics
from service.speakers.lifecycle import Retention, expire, last_used_at
from service.store import SpeakerState, Store

log = logging.getLogger(__name__)

_DAY_S = 86_400.0
_APART_S = 0.95 * _DAY_S  # so that setting the clock right by an hour does no harm
_QUIET_S = 7 * _DAY_S
_QUIET_SHARE = 1 / 12
_ALWAYS_ALLOWED = 5  # voices, whatever share of the tenant's they are
_PAGE = 200

Audit = Callable[[str], AbstractAsyncContextManager[object]]
"""Makes the context in which the voice of a speaker id is erased, and which audits that."""


@dataclass(frozen=True, slots=True)
class Survey:
    """How many voices a tenant has, whose have expired, and when one was last used, leaving out
    times in the future. Times are seconds since the epoch, UTC."""

    voices: int
    expired: tuple[str, ...]
    newest_use: float


async def survey_voices(store: Store, tenant: str, retention: Retention, *, since: float) -> Survey:
    """Read all voices of a tenant; `expired` are those that are, and were at `since`."""
    now, voices, newest = retention.clock(), 0, -math.inf
    expired: list[str] = []
    after = None
    while True:
        page = await store.list(tenant, limit=_PAGE, after=after)
        for speaker in filter(lambda speaker: speaker.voiceprints, page.speakers):
            voices += 1
            used_at = last_used_at(speaker)
            newest = max(newest, used_at) if used_at <= now else newest
            if retention.expires_at(speaker) <= min(since, now):
                expired.append(speaker.speaker_id)
        if page.next_after is None:
            return Survey(voices, tuple(expired), newest)
        after = page.next_after


async def erase_expired(
    store: Store, tenant: str, survey: Survey, retention: Retention, *, audit: Audit
) -> int:
    """Erase the expired voices of a survey, each inside `audit(speaker_id)`, and return how many
    there were. Voices that were used or changed since the survey stay."""
    erased = 0
    for speaker_id in survey.expired:
        speaker = await store.get(tenant, speaker_id)
        if speaker is None or retention.state(speaker) is not SpeakerState.EXPIRED:
            continue
        with contextlib.suppress(Aborted):
            async with audit(speaker_id):
                without_voice = expire(speaker, now=retention.clock())
                await store.put(without_voice, expected_etag=speaker.etag)
            erased += 1
    return erased


class Expiry:
    """Sweeps for expired voices while the server runs; at most `max_share` of a tenant's voices, or
    five of them, expire at once."""

    def __init__(
        self,
        store: Store,
        retention: Retention,
        auditor: Auditor,
        *,
        max_share: float,
        publish: Publish = publish_nothing,
    ) -> None:
        self._store = store
        self._retention = retention
        self._auditor = auditor
        self._max_share = max_share
        self._publish = publish

    async def run(self) -> None:
        """Sweep at the start and once a day; a sweep that fails is logged."""
        while math.isfinite(self._retention.expire_after_s):
            try:
                await self.sweep()
            except SaysoError as error:
                log.error("expired voices were not looked for: %s", error)
            await asyncio.sleep(_DAY_S)

    async def sweep(self) -> None:
        """Sweep every tenant; one whose voices cannot be read does not hold up the others."""
        swept_at = {
            tenant: await self._read_sweep(tenant) for tenant in await self._store.tenants()
        }
        if all(since is None for since in swept_at.values()):
            return
        surveys = {tenant: await self._survey(tenant, since) for tenant, since in swept_at.items()}
        newest = max(
            (survey.newest_use for survey in surveys.values() if survey), default=-math.inf
        )
        for tenant, survey in surveys.items():
            if survey is None or swept_at[tenant] is None:
                continue
            with use_caller(Caller(tenant, ANYONE.roles, "server")):
                await self._erase_or_refuse(tenant, survey, newest)

    async def _read_sweep(self, tenant: str) -> float | None:
        """When the tenant was last swept, if that is a day ago. Notes a first sweep."""
        now, swept_at = self._retention.clock(), await self._store.swept_at(tenant)
        if swept_at is None or swept_at > now:
            await self._store.note_sweep(tenant, at=now)
            return None
        return swept_at if now - swept_at >= _APART_S else None

    async def _survey(self, tenant: str, since: float | None) -> Survey | None:
        try:
            return await survey_voices(
                self._store, tenant, self._retention, since=-math.inf if since is None else since
            )
        except SaysoError as error:
            log.error("voices of tenant %s were not looked through: %s", tenant, error)
            return None

    async def _erase_or_refuse(self, tenant: str, survey: Survey, newest: float) -> None:
        try:
            if survey.expired and (refusal := self._find_refusal(tenant, survey, newest)):
                await self._refuse(refusal)
                return
            now = self._retention.clock()
            erased = await erase_expired(
                self._store, tenant, survey, self._retention, audit=partial(self._audit, tenant)
            )
            await self._store.note_sweep(tenant, at=now)
        except SaysoError as error:
            log.error("expired voices of tenant %s were not erased: %s", tenant, error)
            return
        if erased:
            metrics.count_expired(erased)
            log.info("erased %d expired voices of tenant %s", erased, tenant)

    def _find_refusal(self, tenant: str, survey: Survey, newest: float) -> tuple[str, str] | None:
        """The name and message of a refusal; None if the erasure is plausible."""
        now, due = self._retention.clock(), len(survey.expired)
        quiet_s = max(_QUIET_S, _QUIET_SHARE * self._retention.expire_after_s)
        ending = f"if they are to go, run `sayso tenants expire {tenant}`"
        if now - newest > quiet_s:
            return "CLOCK_AHEAD", (
                f"the clock says {_format_date(now)}, and no voice in the store was used after "
                f"{_format_date(newest)}: it may be ahead, so none of the {due} voices of tenant "
                f"{tenant} that would expire is erased; mend the clock or, {ending}"
            )
        if due > max(_ALWAYS_ALLOWED, math.floor(self._max_share * survey.voices)):
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

    @asynccontextmanager
    async def _audit(self, tenant: str, speaker_id: str) -> AsyncIterator[None]:
        """Audit an erasure, then publish it."""
        async with self._auditor.record_change(Action.EXPIRE, speaker_id):
            yield
        await self._publish(tenant, Event(EventType.SPEAKER_EXPIRED, speaker_id))


def _format_date(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" if math.isfinite(at) else "the beginning"
