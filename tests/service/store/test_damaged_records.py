"""One record that cannot be read is named, counted and left out; the others are served."""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import redis as redis_py
from typer.testing import CliRunner

from service.commands.tenants import app
from service.errors import SaysoError
from service.sealing import Sealing
from service.store import RecordError, SealedStore, Speaker, open_store, upkeep
from tests.support.master_keys import CountingKms
from tests.support.redis_server import RedisServer

MakeSpeaker = Callable[..., Speaker]


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path) -> str:  # noqa: ANN001
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/voices.db"
    return str(request.getfixturevalue("redis_server").url)


def tear(address: str, tenant: str, speaker_id: str) -> None:
    """Half of the profile is gone."""
    if address.startswith("sqlite"):
        with sqlite3.connect(urlsplit(address).path) as database:
            database.execute(
                "UPDATE speaker SET profile = substr(profile, 1, 20) WHERE speaker_id = ?",
                (speaker_id,),
            )
        database.close()
        return
    with redis_py.Redis.from_url(address) as client:
        key = f"sayso:{{{tenant}}}:speaker:{speaker_id}"
        profile = client.hget(key, "profile")
        assert isinstance(profile, bytes)
        client.hset(key, "profile", profile[:20])


async def test_a_torn_record_is_left_out_and_counted(
    store: SealedStore, address: str, make_speaker: MakeSpeaker, caplog: pytest.LogCaptureFixture
) -> None:
    left_out: list[None] = []
    store.records.observe_unreadable = lambda: left_out.append(None)
    ids = ["alice", "bob", "carol"]
    for speaker_id in ids:
        tenant = (await store.put(make_speaker(speaker_id), expected_etag=None)).tenant
    await asyncio.to_thread(tear, address, tenant, "carol")
    page = await store.list(tenant, limit=3)
    assert ([each.speaker_id for each in page.speakers], page.next_after) == (ids[:2], "carol")
    assert len(await store.get_many(tenant, ids)) == 2
    assert len(left_out) == 2
    assert f"record of tenant {tenant} is left out" in caplog.text
    assert "carol" not in caplog.text
    with pytest.raises(RecordError):
        await store.get(tenant, "carol")
    assert [name async for name, _ in upkeep.find_damaged(store, tenant)] == ["carol"]
    assert await store.delete(tenant, "carol")
    assert [name async for name, _ in upkeep.find_damaged(store, tenant)] == []


async def test_what_is_no_record_at_all_is_left_out(
    redis_server: RedisServer,
    make_speaker: MakeSpeaker,
) -> None:
    async with open_store(redis_server.url, timeout_s=10.0) as store:
        speaker = await store.put(make_speaker(), expected_etag=None)
        for number, words in enumerate((("SET", "x"), ("HSET", "f", "x"), ("RPUSH", "x"))):
            speaker_id = f"bob-{number}"
            await store.put(make_speaker(speaker_id), expected_etag=None)
            key = f"sayso:{{{speaker.tenant}}}:speaker:{speaker_id}"
            redis_server.command("DEL", key)
            redis_server.command(words[0], key, *words[1:])
        page = await store.list(speaker.tenant, limit=10)
        assert page.speakers == (speaker,)
        named = [name async for name, _ in upkeep.find_damaged(store, speaker.tenant)]
        assert named == ["bob-0", "bob-1", "bob-2"]
        for speaker_id in named:
            assert await store.delete(speaker.tenant, speaker_id)


async def test_sealing_ends_and_says_so(address: str, make_speaker: MakeSpeaker) -> None:
    async with open_store(address, timeout_s=10.0) as plain:
        for speaker_id in ("alice", "bob"):
            tenant = (await plain.put(make_speaker(speaker_id), expected_etag=None)).tenant
    await asyncio.to_thread(tear, address, tenant, "bob")
    async with open_store(address, timeout_s=10.0, sealing=Sealing(CountingKms())) as store:
        with pytest.raises(SaysoError, match="tenants check"):
            await upkeep.seal(store, tenant)
        assert await store.delete(tenant, "bob")
        assert await upkeep.seal(store, tenant) == 0


def test_the_operator_is_told_whose_record_it_is(address: str, make_speaker: MakeSpeaker) -> None:
    async def enrol(tenant: str) -> None:
        async with open_store(address, timeout_s=10.0) as store:
            for speaker_id in ("alice", "bob"):
                speaker = replace(make_speaker(speaker_id), tenant=tenant)
                await store.put(speaker, expected_etag=None)

    tenant = make_speaker().tenant
    asyncio.run(enrol(tenant))
    environment = {"SAYSO_STORE": address}
    assert CliRunner().invoke(app, ["check", tenant], env=environment).exit_code == 0
    tear(address, tenant, "bob")
    result = CliRunner().invoke(app, ["check", tenant], env=environment)
    assert result.exit_code == 1
    assert f"{tenant}: bob: a stored profile cannot be read" in result.stdout
