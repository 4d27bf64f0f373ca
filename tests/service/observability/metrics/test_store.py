from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from service.errors import Aborted, NotFound
from service.observability.metrics.store import time_operations
from service.store import Group, Speaker, SpeakerState, Store, open_store

ALICE = Speaker(
    tenant="t",
    speaker_id="alice",
    state=SpeakerState.PENDING,
    created_at=1.0,
    updated_at=1.0,
)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Ticking:
    """A clock that moves on by a second whenever it is read."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        self._now_s += 1
        return self._now_s


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with time_operations(
        open_store(f"sqlite:///{tmp_path / 'voices.db'}"), clock=Ticking()
    ) as timed:
        yield timed


async def test_it_is_the_store_that_it_observes(store: Store) -> None:
    put = await store.put(ALICE, expected_etag=None)
    assert await store.get("t", "alice") == put
    assert [each async for each in _ids(store)] == ["alice"]


async def _ids(store: Store) -> AsyncIterator[str]:
    for speaker in (await store.list("t", limit=10)).speakers:
        yield speaker.speaker_id


async def test_operations_are_timed(store: Store) -> None:
    count = sample("sayso_store_seconds_count", operation="get")
    seconds = sample("sayso_store_seconds_sum", operation="get")
    for _ in range(3):
        await store.get("t", "nobody")
    assert sample("sayso_store_seconds_count", operation="get") == count + 3
    assert sample("sayso_store_seconds_sum", operation="get") == seconds + 3


async def test_operations_on_groups_are_timed(store: Store) -> None:
    count = sample("sayso_store_seconds_count", operation="groups_create")
    await store.groups.create("t", Group("vip", "", 0.0))
    assert (await store.groups.get("t", "vip")).name == "vip"
    assert sample("sayso_store_seconds_count", operation="groups_create") == count + 1


async def test_errors_are_counted_by_kind_and_still_raised(store: Store) -> None:
    aborted = sample("sayso_store_errors_total", operation="put", error="Aborted")
    missing = sample("sayso_store_errors_total", operation="groups_get", error="NotFound")
    timed = sample("sayso_store_seconds_count", operation="put")
    with pytest.raises(Aborted):
        await store.put(replace(ALICE, etag="old"), expected_etag="old")
    with pytest.raises(NotFound):
        await store.groups.get("t", "nobody")
    assert sample("sayso_store_errors_total", operation="put", error="Aborted") == aborted + 1
    assert sample("sayso_store_errors_total", operation="groups_get", error="NotFound") == (
        missing + 1
    )
    assert sample("sayso_store_seconds_count", operation="put") == timed + 1
