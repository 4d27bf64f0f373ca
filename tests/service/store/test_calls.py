"""Announced calls, on every store."""

import asyncio

from service.store import AnnouncedCall, Store

NOW = 1_700_000_000.0


def make_call(call_id: str = "CA1", *, valid_s: float = 60.0) -> AnnouncedCall:
    return AnnouncedCall(call_id, ("alice",), "payments", NOW + valid_s)


async def test_a_call_is_taken_once(store: Store, tenant: str) -> None:
    await store.calls.announce(tenant, make_call(), at=NOW)
    taken = await asyncio.gather(*(store.calls.take(tenant, "CA1", at=NOW) for _ in range(8)))
    assert [call for call in taken if call is not None] == [make_call()]


async def test_the_latest_announcement_counts(store: Store, tenant: str) -> None:
    await store.calls.announce(tenant, make_call(valid_s=5.0), at=NOW)
    await store.calls.announce(tenant, make_call(), at=NOW)
    assert await store.calls.take(tenant, "CA1", at=NOW + 59.0) == make_call()


async def test_an_expired_call_is_gone(store: Store, tenant: str) -> None:
    await store.calls.announce(tenant, make_call(), at=NOW)
    assert await store.calls.take(tenant, "CA1", at=NOW + 60.0) is None
    assert await store.calls.take(tenant, "CA1", at=NOW) is None


async def test_a_store_forgets_what_nobody_took(store: Store, tenant: str) -> None:
    await store.calls.announce(tenant, make_call(valid_s=0.01), at=NOW)
    await asyncio.sleep(0.05)
    await store.calls.announce(tenant, make_call("CA2"), at=NOW + 0.02)
    assert await store.calls.take(tenant, "CA1", at=NOW) is None
    assert await store.calls.take(tenant, "CA2", at=NOW) == make_call("CA2")


async def test_no_tenant_sees_another_tenants_calls(store: Store, tenant: str) -> None:
    await store.calls.announce(tenant, make_call(), at=NOW)
    assert await store.calls.take(f"{tenant}-other", "CA1", at=NOW) is None
    assert await store.calls.take(tenant, "CA1", at=NOW) == make_call()
