"""Changes inside JSON, which changes of its bytes rarely survive as JSON."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

_HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.0, 2**31, 2**63, 2**64, 10**400, 1e308),
    *(float("nan"), float("inf"), "", "x", "0", "\0", "\ud800", "é" * 100, "A" * 44, "\uffff"),
    *([], {}, [[]], [None], [1, 2], [["m", 24]], [["m", -1]], {"a": 1}, {"": []}),
    *("2026-11-22T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"),
)
_DEPTHS = (100, 900, 4_000)


def operated(text: bytes, chance: Random) -> bytes:
    """`text` with a value replaced, removed, repeated or buried; as it is if it is no JSON."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    places = list(_places(document))
    for _ in range(chance.choice((1, 1, 2))):
        if places:
            _operate(*chance.choice(places), chance)
        else:
            document = chance.choice(_HOSTILE)
    try:
        made = json.dumps(document).encode()
    except RecursionError:
        return text
    if chance.random() < 0.02:
        depth = chance.choice(_DEPTHS)
        return b"[" * depth + made + b"]" * depth
    return made


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container and a key or index in it."""
    waiting = [value]
    while waiting:
        container = waiting.pop()
        if isinstance(container, dict | list):
            items = container.items() if isinstance(container, dict) else enumerate(container)
            yield from ((container, key) for key, _ in items)
            waiting += container.values() if isinstance(container, dict) else container


def _operate(container: Any, key: Any, chance: Random) -> None:
    """Nothing, where an earlier operation took the place away."""
    if key not in (container if isinstance(container, dict) else range(len(container))):
        return
    match chance.randrange(6):
        case 0:
            del container[key]
        case 1:
            container[key] = [container[key]]
        case 2 if isinstance(container, dict):
            container[f"{key}s"] = container[key]
        case 2:
            container.append(container[key])
        case _:
            container[key] = chance.choice(_HOSTILE)
