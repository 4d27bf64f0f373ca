"""One rpc of a platform: silence limited, errors as statuses of gRPC, broken or ended.

A handler of grpc.aio is cancelled when the platform goes away. The call then still has to be
decided on what was heard, so it runs in a task of its own.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

import grpc

from gateway import metrics
from gateway.errors import CallRefused, ProtocolError

log = logging.getLogger(__name__)

MAX_AUDIO_BYTES = 64 * 1024
"""Of one message; the most that Webex sends."""

Request = TypeVar("Request")
Context = Any
"""The grpc.aio.ServicerContext of a stream."""


class Unauthenticated(Exception):
    """The credential is missing or wrong; the message is for the log and for the platform."""


class Stream(Generic[Request]):
    """The messages that a platform sends; `broken` once it left without ending the stream."""

    def __init__(self, context: Context, *, start_s: float, max_pause_s: float) -> None:
        self._context = context
        self._wait_s = start_s
        self._max_pause_s = max_pause_s
        self.broken = False

    async def receive(self) -> Request | None:
        """The next message; None if the stream ended. Raises `ProtocolError` if none comes."""
        try:
            async with asyncio.timeout(self._wait_s):
                request: Any = await self._context.read()
        except TimeoutError:
            raise ProtocolError(f"nothing came for {self._wait_s:.0f} s") from None
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            self.broken = True
            return None
        self._wait_s = self._max_pause_s
        return None if request is grpc.aio.EOF else cast(Request, request)

    async def messages(self) -> AsyncIterator[Request]:
        """Yield the messages that are left."""
        while (request := await self.receive()) is not None:
            yield request


Verify = Callable[[Stream[Any], Context], Awaitable[None]]


class Rpcs:
    """Runs the rpcs of one platform, `most` at once."""

    def __init__(self, *, most: int, start_s: float, max_pause_s: float) -> None:
        self._most = most
        self._start_s = start_s
        self._max_pause_s = max_pause_s
        self._tasks: set[asyncio.Task[tuple[grpc.StatusCode, str] | None]] = set()

    async def run(self, platform: str, verify: Verify, _requests: Any, context: Context) -> None:
        """Run an rpc until it ends; what it raises becomes a status."""
        metrics.CONNECTOR.set(platform)
        stream: Stream[Any] = Stream(context, start_s=self._start_s, max_pause_s=self._max_pause_s)
        if len(self._tasks) >= self._most:
            metrics.count_refusal("full")
            log.warning("%s: refused: too many streams", platform)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams")
        task = asyncio.create_task(_guard(platform, verify, stream, context))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        status = await asyncio.shield(task)
        if status is not None:
            await context.abort(*status)

    async def close(self) -> None:
        """End the rpcs that are left."""
        for task in (tasks := tuple(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _guard(
    platform: str, verify: Verify, stream: Stream[Any], context: Context
) -> tuple[grpc.StatusCode, str] | None:
    """The status that an rpc fails with; None if it does not."""
    try:
        await verify(stream, context)
    except Unauthenticated as error:
        metrics.count_refusal("credential")
        log.warning("%s: refused: %s", platform, error)
        return grpc.StatusCode.UNAUTHENTICATED, "the credential is missing or not valid"
    except CallRefused as error:
        log.warning("%s: closed: %s", platform, error)
        full = error.reason in ("full", "unreachable")
        code = grpc.StatusCode.UNAVAILABLE if full else grpc.StatusCode.FAILED_PRECONDITION
        return code, str(error)
    except ProtocolError as error:
        log.info("%s: closed: %s", platform, error)
        return grpc.StatusCode.INVALID_ARGUMENT, str(error)
    except Exception:
        if not stream.broken:
            log.exception("%s failed", platform)
        return grpc.StatusCode.INTERNAL, "the gateway's log says why"
    return None


def read_metadata(context: Context, name: str) -> list[str]:
    """The values of a header, without those that are bytes."""
    found = context.invocation_metadata() or ()
    return [value for key, value in found if key == name and isinstance(value, str)]
