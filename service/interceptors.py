"""What happens around every call, as a list of guards, the outermost first.

call -> counted -> logged -> errors_to_status -> identified -> within -> rpc
        metrics    logs      here                identity      limits
"""

import functools
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from service.errors import InvalidArgument, Overloaded, SaysoError
from service.identity import current
from service.limits import TenantLimits

log = logging.getLogger(__name__)

_OURS = "/sayso."
_DETAILS_KEY = "grpc-status-details-bin"

Context = grpc.aio.ServicerContext[Any, Any]
Guard = Callable[[str, Context], AbstractAsyncContextManager[None]]


class Around(grpc.aio.ServerInterceptor):
    """Runs guards around every method of this project's services, the outermost first; health and
    reflection pass untouched."""

    def __init__(self, *guards: Guard) -> None:
        self._guards = guards

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        name = handler_call_details.method
        if handler is None or not name.startswith(_OURS):
            return handler
        requests = "stream" if handler.request_streaming else "unary"
        if handler.response_streaming:
            field, wrap = f"{requests}_stream", self._streaming
        else:
            field, wrap = f"{requests}_unary", self._unary
        return handler._replace(**{field: wrap(name, getattr(handler, field))})

    async def _enter(self, stack: AsyncExitStack, name: str, context: Context) -> None:
        for guard in self._guards:
            await stack.enter_async_context(guard(name, context))

    def _unary(self, name: str, call: Any) -> Any:
        @functools.wraps(call)
        async def wrapped(request: Any, context: Context) -> Any:
            async with AsyncExitStack() as stack:
                await self._enter(stack, name, context)
                return await call(request, context)

        return wrapped

    def _streaming(self, name: str, call: Any) -> Any:
        @functools.wraps(call)
        async def wrapped(request: Any, context: Context) -> AsyncIterator[Any]:
            async with AsyncExitStack() as stack:
                await self._enter(stack, name, context)
                async for response in call(request, context):
                    yield response

        return wrapped


def within(limits: TenantLimits) -> Guard:
    """Refuses a call beyond what its tenant may use; inside the guard that says who calls."""

    @asynccontextmanager
    async def guard(name: str, context: Context) -> AsyncIterator[None]:
        with limits.call(current().tenant):
            yield

    return guard


@asynccontextmanager
async def errors_to_status(name: str, context: Context) -> AsyncIterator[None]:
    """The one place where an exception becomes a gRPC status with details.

    What it leaves behind holds nothing of the call: gRPC ties it into a cycle, which would keep
    megabytes of audio until a full collection. So an exception belongs to one call alone: to clear
    a frame of another would end that call in its middle.
    """
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except SaysoError as error:
        traceback.clear_frames(error.__traceback__)
        await _abort(error, context)
    except NotImplementedError as error:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, str(error) or "not implemented yet")
    except Exception as error:
        log.exception("%s failed", name)
        traceback.clear_frames(error.__traceback__)
        await context.abort(grpc.StatusCode.INTERNAL, "internal error; see the server's log")


def details(error: SaysoError) -> list[message.Message]:
    """The google.rpc details that tell a program what the message tells a person."""
    if isinstance(error, InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message
        )
        return [error_details_pb2.BadRequest(field_violations=[violation])]
    if isinstance(error, Overloaded):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        return [error_details_pb2.RetryInfo(retry_delay=delay)]
    return []


async def _abort(error: SaysoError, context: Context) -> None:
    status = status_pb2.Status(code=error.code.value[0], message=error.status_message)
    for detail in details(error):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    trailing = (*context.trailing_metadata(), (_DETAILS_KEY, status.SerializeToString()))
    await context.abort(error.code, error.status_message, trailing_metadata=trailing)
