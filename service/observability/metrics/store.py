"""Time every operation of a store."""

import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self, cast

from service.errors import SaysoError
from service.observability.metrics import STORE_ERRORS, STORE_S
from service.store import Store

_PARTS = ("groups", "failures", "calls", "events")


def time_operations(store: Store, *, clock: Callable[[], float] = time.perf_counter) -> Store:
    """Wrap `store` so that the seconds and errors of its operations are counted."""
    return cast(Store, _TimedStore(store, "", clock))


class _TimedStore:
    """Times each coroutine method of `inner` under its name, those of its parts as part_name."""

    def __init__(self, inner: Any, prefix: str, clock: Callable[[], float]) -> None:
        self._inner = inner
        self._prefix = prefix
        self._clock = clock

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name in _PARTS:
            value = _TimedStore(value, f"{name}_", self._clock)
        elif inspect.iscoroutinefunction(value):
            value = _time_method(value, self._prefix + name, self._clock)
        setattr(self, name, value)
        return value


def _time_method(
    call: Callable[..., Awaitable[Any]], operation: str, clock: Callable[[], float]
) -> Callable[..., Awaitable[Any]]:
    seconds = STORE_S.labels(operation)

    @functools.wraps(call)
    async def call_timed(*args: Any, **options: Any) -> Any:
        began_s = clock()
        try:
            return await call(*args, **options)
        except Exception as error:
            known = isinstance(error, SaysoError)
            STORE_ERRORS.labels(operation, type(error).__name__ if known else "Exception").inc()
            raise
        finally:
            seconds.observe(clock() - began_s)

    return call_timed
