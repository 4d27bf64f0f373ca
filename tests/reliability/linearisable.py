"""Whether what many clients were told of one thing could have been told by one after the other.

A history is linearisable if each operation can be given a moment between its call and its answer,
so that a model, asked in the order of those moments, gives the same answers (Herlihy and Wing,
"Linearizability: a correctness condition for concurrent objects", 1990). The search is that of Wing
and Gong, 1993, with the states that were tried remembered (Lowe, "Testing for linearizability",
2017).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

State = TypeVar("State", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Operation(Generic[State]):
    """What was asked between `called_s` and `answered_s`.

    `after` gives the state that the answer allows after a state, or None where the answer is not
    the one that the model gives in that state.
    """

    name: str
    called_s: float
    answered_s: float
    after: Callable[[State], State | None]


def linearisable(history: Sequence[Operation[State]], initial: State) -> bool:
    """Whether some order of the operations explains all answers, from `initial`."""
    everything = (1 << len(history)) - 1
    tried: set[tuple[int, State]] = set()
    pending: list[tuple[int, State]] = [(0, initial)]
    while pending:
        done, state = pending.pop()
        if done == everything:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        for index in _next(history, done):
            after = history[index].after(state)
            if after is not None:
                pending.append((done | 1 << index, after))
    return False


def _next(history: Sequence[Operation[State]], done: int) -> list[int]:
    """Those not done that were called before any other of them was answered."""
    left = [index for index in range(len(history)) if not done >> index & 1]
    first_s = min(history[index].answered_s for index in left)
    return [index for index in left if history[index].called_s <= first_s]
