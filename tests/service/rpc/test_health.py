"""Health as it is told to probes and watchers."""

from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

import pytest
from grpc_health.v1 import health_pb2

from service.errors import NotFound
from service.rpc.health import REASON, HealthRpc

States = health_pb2.HealthCheckResponse
NO_CONTEXT = cast(Any, None)


class Told:
    """A call's context that keeps what its trailing metadata tells."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str]]) -> None:
        self.metadata = dict(metadata)


@pytest.fixture
def health() -> HealthRpc:
    return HealthRpc(["", "voices"])


async def check(health: HealthRpc, service: str = "", context: Told | None = None) -> int:
    asked = health_pb2.HealthCheckRequest(service=service)
    reply = await health.Check(asked, cast(Any, context or Told()))
    return reply.status


def watch(health: HealthRpc, service: str = "") -> AsyncIterator[health_pb2.HealthCheckResponse]:
    return health.Watch(health_pb2.HealthCheckRequest(service=service), NO_CONTEXT)


async def test_every_service_has_the_state_of_the_server(health: HealthRpc) -> None:
    assert [await check(health, name) for name in ("", "voices")] == [States.NOT_SERVING] * 2
    health.set(serving=True)
    assert [await check(health, name) for name in ("", "voices")] == [States.SERVING] * 2
    with pytest.raises(NotFound):
        await check(health, "other")


async def test_a_disabled_service_never_serves_and_says_why() -> None:
    health = HealthRpc(["", "voices"], disabled=["voices"])
    health.set(serving=True)
    health.reason = ""
    told = Told()
    assert await check(health) == States.SERVING
    assert await check(health, "voices", told) == States.NOT_SERVING
    assert told.metadata == {REASON: "the model has no calibration"}


async def test_a_watcher_is_told_every_change(health: HealthRpc) -> None:
    watching = watch(health)
    told = [(await anext(watching)).status]
    for serving in (True, True, False):
        health.set(serving=serving)
        if serving != (told[-1] == States.SERVING):
            told.append((await anext(watching)).status)
    assert told == [States.NOT_SERVING, States.SERVING, States.NOT_SERVING]


async def test_a_watcher_that_does_not_read_keeps_nobody_waiting(health: HealthRpc) -> None:
    idle, busy = watch(health), watch(health)
    await anext(idle)
    await anext(busy)
    health.set(serving=True)
    assert (await anext(busy)).status == States.SERVING
    assert await check(health) == States.SERVING


async def test_an_unknown_service_is_watched_until_it_is_there(health: HealthRpc) -> None:
    assert (await anext(watch(health, "other"))).status == States.SERVICE_UNKNOWN


async def test_stopping_tells_watchers_and_ends_their_calls(health: HealthRpc) -> None:
    health.set(serving=True)
    watching = watch(health)
    await anext(watching)
    health.stop()
    health.set(serving=True)
    assert [state.status async for state in watching] == [States.NOT_SERVING]
    assert await check(health) == States.NOT_SERVING
