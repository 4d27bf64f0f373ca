"""Master keys for the tests, a KMS that can be taken away, and clocks that tests move."""

import asyncio
import base64
import secrets

from service.errors import Unavailable
from service.sealing import Kms, LocalMaster


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class CountingKms:
    """A `Kms` that counts its unwrapping, refuses all while it is `away`, and is `asked` at once
    but unwraps only while `free` is set."""

    def __init__(self, kms: Kms | None = None) -> None:
        self._kms = kms or LocalMaster.from_text(new_key())
        self.unwrapped = 0
        self.away = False
        self.asked = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        self._reach()
        return await self._kms.wrap(key, context)

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        self._reach()
        self.unwrapped += 1
        self.asked.set()
        await self.free.wait()
        return await self._kms.unwrap(wrapped, context)

    async def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        self._reach()
        return await self._kms.rewrap(wrapped, context)

    def _reach(self) -> None:
        if self.away:
            raise Unavailable("the KMS is away")
