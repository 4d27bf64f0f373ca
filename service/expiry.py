"""Expiry: once a day, erases the voices that nobody has used for too long."""

import asyncio
import logging
import math
from contextlib import AbstractAsyncContextManager

from service.audit import Action, Auditor
from service.errors import SaysoError
from service.identity import ANYONE, Caller, calling
from service.store import Store
from service.store.lifecycle import Retention, erase_expired

log = logging.getLogger(__name__)

_DAY_S = 86_400.0


class Expiry:
    """Runs for as long as the server does."""

    def __init__(self, store: Store, retention: Retention, auditor: Auditor) -> None:
        self._store = store
        self._retention = retention
        self._auditor = auditor

    async def run(self) -> None:
        """Sweeps once a day; what a sweep cannot reach waits for the next."""
        while math.isfinite(self._retention.expire_after_s):
            try:
                await self._sweep()
            except SaysoError as error:
                log.warning("expired voices were not erased: %s", error)
            await asyncio.sleep(_DAY_S)

    async def _sweep(self) -> None:
        for tenant in await self._store.tenants():
            with calling(Caller(tenant, ANYONE.roles, "server")):
                erased = await erase_expired(
                    self._store, tenant, self._retention, around=self._around
                )
            if erased:
                log.info("erased %d expired voices", erased)

    def _around(self, speaker_id: str) -> AbstractAsyncContextManager[object]:
        return self._auditor.changing(Action.EXPIRE, speaker_id)
