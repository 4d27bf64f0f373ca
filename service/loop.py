"""Loop: asyncio's, that asks the system for what has come less often than it could.

A request takes a dozen steps of the loop, most of which only hand something on to the next, and
asyncio would ask before each of them. To ask is to let another thread have the interpreter and to
wait for it to come back, which takes longer than the step.
"""

import asyncio
import selectors

_STEPS = 16


class _Patient(selectors.DefaultSelector):
    """Asks when there is nothing else to do, and else every 16th time."""

    def __init__(self) -> None:
        super().__init__()
        self._left = _STEPS

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0 and self._left:
            self._left -= 1
            return []
        self._left = _STEPS
        return super().select(timeout)


def new() -> asyncio.AbstractEventLoop:
    """For `asyncio.Runner`."""
    return asyncio.SelectorEventLoop(_Patient())
