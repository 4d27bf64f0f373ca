"""A store that is timed: any store, each of its operations, whatever they are."""

import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self, cast

from service.errors import SaysoError
from service.observability.metrics import STORE_ERRORS, STORE_S
from service.store import Store

_PARTS = ("groups", "failures")


def observed(store: Store, *, clock: Callable[[], float] = time.perf_counter) -> Store:
    """`store`, with the seconds and the errors of its operations counted."""
    return cast(Store, _Observed(store, "", clock))


class _Observed:
    """Every coroutine method of `inner` timed under its name, those of its parts as part_name;
    the rest of it as it is."""

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
        found = getattr(self._inner, name)
        if name in _PARTS:
            found = _Observed(found, f"{name}_", self._clock)
        elif inspect.iscoroutinefunction(found):
            found = _timed(found, self._prefix + name, self._clock)
        setattr(self, name, found)
        return found


def _timed(
    call: Callable[..., Awaitable[Any]], operation: str, clock: Callable[[], float]
) -> Callable[..., Awaitable[Any]]:
    seconds = STORE_S.labels(operation)

    @functools.wraps(call)
    async def timed(*args: Any, **options: Any) -> Any:
        began_s = clock()
        try:
            return await call(*args, **options)
        except Exception as error:
            known = isinstance(error, SaysoError)
            STORE_ERRORS.labels(operation, type(error).__name__ if known else "Exception").inc()
            raise
        finally:
            seconds.observe(clock() - began_s)

    return timed
