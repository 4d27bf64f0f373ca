"""How a call ended: its status and its seconds, for whoever tells of it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import grpc

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Tell: TypeAlias = Callable[[grpc.StatusCode, float], None]


@contextmanager
def ended(
    context: Context, tell: Tell, *, clock: Callable[[], float] = time.perf_counter
) -> Iterator[None]:
    """Tells the status and the seconds of a call once, however it ends.

    A stream whose caller is gone is closed rather than cancelled where it was being written.
    """
    began_s = clock()
    left = False
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        left = True
        raise
    finally:
        tell(_abandoned(context) if left else _code(context), clock() - began_s)


def _abandoned(context: Context) -> grpc.StatusCode:
    """The status that a caller sees who did not wait."""
    remaining_s = context.time_remaining()
    late = remaining_s is not None and remaining_s <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED


def _code(context: Context) -> grpc.StatusCode:
    """The status that was set; grpc reports an untouched one as 0."""
    code = context.code()
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.OK
