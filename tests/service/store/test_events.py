"""Events, on every store."""

import asyncio
from pathlib import Path

import pytest

from service.sealing import Sealing
from service.store import Horizon, Store, open_store
from service.store.upkeep import erase, rotate
from tests.support.master_keys import CountingKms

NOW = 1_700_000_000.0
ALL = Horizon(most=1000, oldest_at=0.0)


async def append(
    store: Store, tenant: str, *records: bytes, at: float = NOW, horizon: Horizon = ALL
) -> None:
    await store.events.append(tenant, records, at=at, horizon=horizon)


async def read(store: Store, tenant: str, *, after: int = 0, limit: int = 100) -> dict[int, bytes]:
    page = await store.events.read(tenant, after=after, limit=limit)
    return {event.number: event.record for event in page.events}


async def test_events_are_numbered_and_read_in_order(store: Store, tenant: str) -> None:
    await append(store, tenant, b"one", b"two")
    await append(store, tenant, b"three", at=NOW + 0.123456789)
    assert await read(store, tenant) == {1: b"one", 2: b"two", 3: b"three"}
    assert await read(store, tenant, after=1, limit=1) == {2: b"two"}
    page = await store.events.read(tenant, after=2, limit=10)
    assert [event.at for event in page.events] == [NOW + 0.123456789]
    assert (page.read_to, page.last) == (3, 3)


async def test_there_may_be_none(store: Store, tenant: str) -> None:
    page = await store.events.read(tenant, after=0, limit=10)
    assert (page.events, page.read_to, page.last) == ((), 0, 0)
    await append(store, tenant, b"one")
    page = await store.events.read(tenant, after=1, limit=10)
    assert (page.events, page.read_to, page.last) == ((), 1, 1)


async def test_no_tenant_sees_another_tenants_events(store: Store, tenant: str) -> None:
    await append(store, tenant, b"one")
    await append(store, f"{tenant}-other", b"another")
    assert await read(store, tenant) == {1: b"one"}


async def test_only_the_latest_are_kept(store: Store, tenant: str) -> None:
    for number in range(1, 8):
        await append(store, tenant, b"%d" % number, horizon=Horizon(most=3, oldest_at=0.0))
    assert await read(store, tenant) == {5: b"5", 6: b"6", 7: b"7"}


async def test_old_ones_go_and_numbers_go_on(store: Store, tenant: str) -> None:
    await append(store, tenant, b"old", at=NOW)
    later = Horizon(most=1000, oldest_at=NOW + 5)
    await append(store, tenant, b"new", at=NOW + 10, horizon=later)
    assert await read(store, tenant) == {2: b"new"}
    await append(store, tenant, b"newer", at=NOW + 20, horizon=Horizon(1000, NOW + 15))
    assert await read(store, tenant) == {3: b"newer"}


async def test_appending_at_once_loses_none(store: Store, tenant: str) -> None:
    await asyncio.gather(*(append(store, tenant, b"a%d" % n, b"b%d" % n) for n in range(20)))
    found = await read(store, tenant)
    assert sorted(found) == list(range(1, 41))
    assert sorted(found.values()) == sorted(
        b"%s%d" % (x, n) for x in (b"a", b"b") for n in range(20)
    )
    for number in range(1, 41, 2):  # those of one call stay together
        assert found[number][1:] == found[number + 1][1:]


async def test_they_are_sealed_as_voices_are(address: str, tenant: str) -> None:
    kms = CountingKms()
    async with open_store(address, timeout_s=10.0, sealing=Sealing(kms)) as store:
        await append(store, tenant, b"secret")
        assert await read(store, tenant) == {1: b"secret"}
        await rotate(store, tenant)
        await append(store, tenant, b"another")
        assert (await read(store, tenant))[2] == b"another"
    async with open_store(address, timeout_s=10.0) as unsealed:
        with pytest.raises(Exception, match="master key"):
            await read(unsealed, tenant)
    async with open_store(address, timeout_s=10.0, sealing=Sealing(kms)) as store:
        await erase(store, tenant)
        page = await store.events.read(tenant, after=0, limit=10)
        assert (page.events, page.read_to) == ((), 2)


def test_a_file_holds_no_plain_event(tmp_path: Path) -> None:
    async def write() -> None:
        address = f"sqlite:///{tmp_path / 'voices.db'}"
        async with open_store(address, sealing=Sealing(CountingKms())) as store:
            await append(store, "tenant", b"a phrase that nobody else writes")

    asyncio.run(write())
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"a phrase that nobody" not in written
