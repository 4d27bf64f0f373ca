"""Interceptors: what runs around every call.

call ─> watched: count_calls, log_calls ─> errors become statuses ─> admitted ─> rpc
                 metrics      logs         here                      identify_caller, enforce_limits
"""

import functools
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from service.access import current
from service.access.limits import TenantLimits
from service.errors import SaysoError
from service.rpc.statuses import INTERNAL_STATUS, build_status

log = logging.getLogger(__name__)

OURS = "/sayso."
_DETAILS_KEY = "grpc-status-details-bin"

Context = grpc.aio.ServicerContext[Any, Any]
Guard = Callable[[str, Context], AbstractContextManager[None]]


class GuardInterceptor(grpc.aio.ServerInterceptor):
    """Runs guards around every method of this project's services, the outermost first.

    `watching` guards see the status that a call ends with; `admitting` guards raise an error to
    refuse it. Health and reflection are limited by `service.rpc.unauthenticated`. Use one instance
    for each server.
    """

    def __init__(self, *, watching: Sequence[Guard], admitting: Sequence[Guard]) -> None:
        self._watching = watching
        self._admitting = admitting
        self._handlers: dict[str, Any] = {}  # by method, wrapped at its first call

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        name = handler_call_details.method
        if (guarded := self._handlers.get(name)) is not None:
            return guarded
        handler = await continuation(handler_call_details)
        if handler is None or not name.startswith(OURS):
            return handler
        requests = "stream" if handler.request_streaming else "unary"
        if handler.response_streaming:
            field, wrap = f"{requests}_stream", self._streaming
        else:
            field, wrap = f"{requests}_unary", self._unary
        guarded = handler._replace(**{field: wrap(name, getattr(handler, field))})
        self._handlers[name] = guarded
        return guarded

    def _unary(self, name: str, call: Any) -> Any:
        @functools.wraps(call)
        async def guarded(request: Any, context: Context) -> Any:
            with _enter_guards(self._watching, name, context):
                try:
                    with _enter_guards(self._admitting, name, context):
                        return await call(request, context)
                except Exception as error:
                    await abort_with_status(error, name, context)

        return guarded

    def _streaming(self, name: str, call: Any) -> Any:
        @functools.wraps(call)
        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
            with _enter_guards(self._watching, name, context):
                try:
                    with _enter_guards(self._admitting, name, context):
                        async for response in call(request, context):
                            yield response
                except Exception as error:
                    await abort_with_status(error, name, context)

        return guarded


def enforce_limits(limits: TenantLimits) -> Guard:
    """Make a guard that refuses calls above the tenant's limits; must run inside
    `identify_caller`."""

    def guard(name: str, context: Context) -> AbstractContextManager[None]:
        return limits.admit_call(current().tenant)

    return guard


@contextmanager
def _enter_guards(guards: Sequence[Guard], name: str, context: Context) -> Iterator[None]:
    with ExitStack() as stack:
        for guard in guards:
            stack.enter_context(guard(name, context))
        yield


async def abort_with_status(error: Exception, name: str, context: Context) -> None:
    """End the call with the gRPC status and details of an exception; raises `AbortError`.

    Clears the frames of the traceback: gRPC ties the exception into a reference cycle, which would
    keep megabytes of audio alive until a full collection. An exception must therefore belong to
    one call only (`errors.copy_for_caller`), since clearing a frame of another call would end it.
    """
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, NotImplementedError):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, str(error) or "not implemented yet")
    elif isinstance(error, SaysoError):
        traceback.clear_frames(error.__traceback__)
        await _abort(error.code, build_status(error), context)
    else:
        log.error("%s failed", name, exc_info=error)
        traceback.clear_frames(error.__traceback__)
        await _abort(grpc.StatusCode.INTERNAL, INTERNAL_STATUS, context)


async def _abort(code: grpc.StatusCode, status: Status, context: Context) -> None:
    trailing = (*context.trailing_metadata(), (_DETAILS_KEY, status.SerializeToString()))
    await context.abort(code, status.message, trailing_metadata=trailing)
