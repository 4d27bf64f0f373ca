"""Bodies of requests: bounded in size, in time, and in how many are held at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

MAX_REQUESTS = 32
"""That one interface answers at a time; others are told to come back."""

_READ_S = 30.0


class BodyRefused(Exception):
    """`status` is the HTTP status; the message says what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Slots:
    """Counts the requests in progress."""

    def __init__(self, most: int = MAX_REQUESTS) -> None:
        self._left = most

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Hold one of the slots; raises `BodyRefused` if all are taken."""
        if not self._left:
            raise BodyRefused(429, "too many requests are in progress; try again")
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read a body; raises `BodyRefused` if it is too large, too slow or broken off."""
    body = bytearray()
    try:
        async with asyncio.timeout(_READ_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise BodyRefused(413, f"the body exceeds {max_bytes} bytes; send less")
    except TimeoutError:
        raise BodyRefused(408, f"the body did not come within {_READ_S:.0f} s") from None
    except ClientDisconnect:
        raise BodyRefused(400, "the body was broken off") from None
    return bytes(body)
