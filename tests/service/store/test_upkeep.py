"""Sealing what is there, changing keys under running servers, and erasing a tenant."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import Aborted, FailedPrecondition, Unavailable
from service.sealing import LocalMaster, Sealing
from service.settings import SealingOptions
from service.store import Group, SealedStore, Speaker, open_store, upkeep
from tests.support.master_keys import CountingKms, new_key
from tests.support.redis_server import RedisServer

MakeSpeaker = Callable[..., Speaker]


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/voices.db"
    if request.param == "cluster":
        nodes: list[RedisServer] = request.getfixturevalue("cluster")
        return f"redis+cluster://127.0.0.1:{nodes[0].port}"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
def sealing() -> Sealing:
    return Sealing(CountingKms())


@pytest.fixture
async def store(address: str, sealing: Sealing) -> AsyncIterator[SealedStore]:
    async with open_store(address, timeout_s=10.0, sealing=sealing) as opened:
        yield opened


async def enrol(store: SealedStore, make_speaker: MakeSpeaker, count: int) -> list[Speaker]:
    return [
        await store.put(make_speaker(f"{n:04}", vectors=2), expected_etag=None)
        for n in range(count)
    ]


def voices(speakers: list[Speaker]) -> list[object]:
    return [(speaker.speaker_id, speaker.voiceprints) for speaker in speakers]


async def everyone(store: SealedStore, tenant: str) -> list[Speaker]:
    return list((await store.list(tenant, limit=1000)).speakers)


async def test_seal(address: str, sealing: Sealing, make_speaker: MakeSpeaker) -> None:
    """All that was plain is sealed, over several pages; a second run has nothing to do."""
    tenant = make_speaker().tenant
    async with open_store(address, timeout_s=10.0) as plain:
        before = await enrol(plain, make_speaker, 250)
    strict = replace(sealing, options=SealingOptions(sealed_only=True))
    async with open_store(address, timeout_s=10.0, sealing=sealing) as store:
        assert await upkeep.seal(store, tenant) == 250
        assert await upkeep.seal(store, tenant) == 0
    async with open_store(address, timeout_s=10.0, sealing=strict) as store:
        assert voices(await everyone(store, tenant)) == voices(before)


async def test_nothing_plain_is_left_in_the_file(
    tmp_path: Path, sealing: Sealing, make_speaker: MakeSpeaker
) -> None:
    """Nor in its write-ahead log, once all is sealed."""
    address = f"sqlite:///{tmp_path}/voices.db"
    async with open_store(address) as plain:
        speaker = make_speaker(vectors=50, dim=256, metadata={"line": "a very private line"})
        await plain.put(speaker, expected_etag=None)
    vector = speaker.voiceprints["model-a"].vectors[7].tobytes()
    assert vector in contents(tmp_path)
    async with open_store(address, sealing=sealing) as store:
        assert await upkeep.seal(store, speaker.tenant) == 1
        assert vector not in contents(tmp_path)
        assert b"private line" not in contents(tmp_path)


def contents(folder: Path) -> bytes:
    return b"\0".join(file.read_bytes() for file in folder.iterdir())


async def test_rotate(store: SealedStore, make_speaker: MakeSpeaker) -> None:
    before = await enrol(store, make_speaker, 5)
    tenant = before[0].tenant
    assert await upkeep.rotate(store, tenant) == 5
    keys = await store.keys.read(tenant)
    assert (keys.current, list(keys.wrapped)) == (2, [2])
    assert voices(await everyone(store, tenant)) == voices(before)


async def test_a_server_that_has_not_heard_of_the_new_key_seals_by_it(
    store: SealedStore, address: str, sealing: Sealing, make_speaker: MakeSpeaker
) -> None:
    async with open_store(address, timeout_s=10.0, sealing=sealing) as other:
        (alice,) = await enrol(other, make_speaker, 1)
        await upkeep.rotate(store, alice.tenant)
        bob = await other.put(make_speaker("bob"), expected_etag=None)
    assert await store.get(bob.tenant, "bob") == bob


async def test_rotate_under_load_loses_nothing(
    store: SealedStore, address: str, sealing: Sealing, make_speaker: MakeSpeaker
) -> None:
    """Another server goes on writing, with the keys that it knows, from before to after."""
    before = await enrol(store, make_speaker, 20)
    tenant = before[0].tenant
    kept = {speaker.speaker_id: speaker for speaker in before}

    async def writing(other: SealedStore) -> None:
        number = 0
        while True:
            number += 1
            name = f"{number % 40:04}"
            found = await other.get(tenant, name)
            speaker = replace(found or make_speaker(name), metadata={"n": str(number)})
            try:
                kept[name] = await other.put(speaker, expected_etag=found.etag if found else None)
            except Aborted:
                continue

    async with open_store(address, timeout_s=10.0, sealing=sealing) as other:
        writer = asyncio.create_task(writing(other))
        for _ in range(3):
            await upkeep.rotate(store, tenant)
        assert not writer.done()
        writer.cancel()
        await asyncio.wait([writer])
    assert list((await store.keys.read(tenant)).wrapped) == [4]
    found = {speaker.speaker_id: speaker for speaker in await everyone(store, tenant)}
    assert kept.keys() <= found.keys()
    for name, speaker in kept.items():
        written, expected = int(found[name].metadata.get("n", 0)), speaker.metadata.get("n", 0)
        assert written >= int(expected)


async def test_templates_are_turned_by_sealing_again(
    store: SealedStore, address: str, sealing: Sealing, make_speaker: MakeSpeaker
) -> None:
    before = await enrol(store, make_speaker, 3)
    turned = replace(sealing, options=SealingOptions(protect_templates=True))
    async with open_store(address, timeout_s=10.0, sealing=turned) as other:
        assert await upkeep.seal(other, before[0].tenant) == 3
        assert await upkeep.seal(other, before[0].tenant) == 0


async def test_rewrap_under_a_new_master_key(address: str, make_speaker: MakeSpeaker) -> None:
    """Old, both, rewrapped, new: the voices are there at every step, and the records untouched."""
    old, new = new_key(), new_key()
    tenant = make_speaker().tenant
    async with open_store(address, sealing=Sealing(LocalMaster.from_text(old))) as store:
        before = await enrol(store, make_speaker, 2)
    async with open_store(address, sealing=Sealing(LocalMaster.from_text(f"{old} {new}"))) as store:
        assert await everyone(store, tenant) == before
        keyring, _ = store.records.require_keys()
        assert await keyring.rewrap(tenant) == 1
    async with open_store(address, sealing=Sealing(LocalMaster.from_text(new))) as store:
        assert await everyone(store, tenant) == before
    async with open_store(address, sealing=Sealing(LocalMaster.from_text(old))) as store:
        with pytest.raises(Unavailable, match="put it back"):
            await everyone(store, tenant)


async def test_rewrap_of_every_tenant(tmp_path: Path, make_speaker: MakeSpeaker) -> None:
    old, new = new_key(), new_key()
    both = Sealing(LocalMaster.from_text(f"{old} {new}"))
    address = f"sqlite:///{tmp_path}/voices.db"
    async with open_store(address, sealing=Sealing(LocalMaster.from_text(old))) as store:
        for tenant in ("a", "b", "c"):
            await store.put(make_speaker(tenant=tenant), expected_etag=None)
    async with open_store(address, sealing=both) as store:
        assert await upkeep.rewrap(store) == 3
    async with open_store(address, sealing=Sealing(LocalMaster.from_text(new))) as store:
        assert [len(await everyone(store, tenant)) for tenant in "abc"] == [1, 1, 1]


async def test_erase(store: SealedStore, address: str, make_speaker: MakeSpeaker) -> None:
    """No master key is needed; the records go with the key, and out of their groups."""
    before = await enrol(store, make_speaker, 3)
    tenant = before[0].tenant
    await store.groups.create(tenant, Group("staff", "", 1.0))
    await store.groups.add(tenant, "staff", ["0001"])
    async with open_store(address, timeout_s=10.0) as other:
        assert await upkeep.erase(other, tenant) == 3
        assert await other.count(tenant) == 0
        assert (await other.groups.get(tenant, "staff")).members == 0
        assert (await other.keys.read(tenant)).erased
        assert await upkeep.erase(other, tenant) == 0
        assert (await other.keys.read(tenant)).erased


async def test_a_tenant_may_enrol_again_under_a_new_key(
    store: SealedStore, make_speaker: MakeSpeaker
) -> None:
    (speaker,) = await enrol(store, make_speaker, 1)
    await upkeep.erase(store, speaker.tenant)
    with pytest.raises(FailedPrecondition, match="rotate-key"):
        await store.put(make_speaker(), expected_etag=None)
    assert await upkeep.rotate(store, speaker.tenant) == 0
    again = await store.put(make_speaker(), expected_etag=None)
    assert await everyone(store, speaker.tenant) == [again]
    assert (await store.keys.read(speaker.tenant)).current == 2


async def test_tenants_are_those_with_speakers_or_keys(
    store: SealedStore, make_speaker: MakeSpeaker, tenant: str
) -> None:
    odd = [tenant, f"{tenant}:a}}b", f"{tenant} Ä%", f"{tenant}-erased"]
    for name in odd:
        await store.put(make_speaker(tenant=name), expected_etag=None)
    await upkeep.erase(store, odd[-1])
    assert [name for name in await store.tenants() if name.startswith(tenant)] == sorted(odd)


async def test_without_a_master_key_there_is_nothing_to_seal_with(
    address: str, tenant: str
) -> None:
    async with open_store(address, timeout_s=10.0) as store:
        for change in (
            upkeep.seal(store, tenant),
            upkeep.rotate(store, tenant),
            upkeep.rewrap(store),
        ):
            with pytest.raises(Unavailable, match="SAYSO_MASTER_KEY_FILE"):
                await change
