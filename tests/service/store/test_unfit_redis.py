"""A Redis that cannot keep voices is not served from, and both log and reply say why."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from service.errors import Unavailable
from service.store import SealedStore, Speaker, Store, open_store
from tests.support.redis_server import RedisServer

MakeSpeaker = Callable[..., Speaker]
_PASSWORD = "p4ss"  # noqa: S105 - of a server that lives as long as a test


@pytest.fixture
def master(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "master"
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server


@pytest.fixture
async def store(master: RedisServer) -> AsyncIterator[SealedStore]:
    async with open_store(master.url, timeout_s=5.0) as opened:
        yield opened


def replica_of(master: RedisServer, folder: Path, *, read_only: bool) -> RedisServer:
    folder.mkdir()
    writable = "yes" if read_only else "no"
    return RedisServer(
        folder,
        *("--replicaof", f"127.0.0.1 {master.port}", "--replica-read-only", writable),
        *("--save", "", "--repl-diskless-sync-delay", "0"),
    )


async def following(replica: Store, speaker: Speaker) -> None:
    while await replica.get(speaker.tenant, speaker.speaker_id) is None:
        pass


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_replica_is_no_store(
    read_only: bool,
    master: RedisServer,
    store: SealedStore,
    tmp_path: Path,
    make_speaker: MakeSpeaker,
) -> None:
    speaker = await store.put(make_speaker(), expected_etag=None)
    with replica_of(master, tmp_path / "replica", read_only=read_only) as other:
        async with open_store(other.url, timeout_s=5.0) as replica:
            await following(replica, speaker)
            with pytest.raises(Unavailable, match="is a replica"):
                await replica.ping()
            with pytest.raises(Unavailable, match="is a replica"):
                await replica.get(speaker.tenant, "alice")
            with pytest.raises(Unavailable, match="is a replica"):
                await replica.put(make_speaker("bob"), expected_etag=None)
            other.command("REPLICAOF", "NO", "ONE")
            await replica.ping()
            assert await replica.get(speaker.tenant, "alice") == speaker


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_what_may_be_evicted_is_not_kept(
    policy: str, master: RedisServer, store: SealedStore, make_speaker: MakeSpeaker
) -> None:
    master.command("CONFIG", "SET", "maxmemory-policy", policy)
    with pytest.raises(Unavailable, match=rf"{policy}.*set maxmemory-policy noeviction"):
        await store.ping()
    with pytest.raises(Unavailable, match="noeviction"):
        await store.put(make_speaker(), expected_etag=None)
    master.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await store.ping()
    await store.put(make_speaker(), expected_etag=None)


@pytest.mark.parametrize("missing", ["eval", "set", "info"])
async def test_a_user_without_a_needed_command(missing: str, master: RedisServer) -> None:
    rights = ("~sayso:*", "+@all", f"-{missing}")
    master.command("ACL", "SETUSER", "limited", "on", f">{_PASSWORD}", *rights)
    url = f"redis://limited:{_PASSWORD}@127.0.0.1:{master.port}/0"
    async with open_store(url, timeout_s=5.0) as limited:
        with pytest.raises(Unavailable, match=r"denies its user.*users\.acl") as refused:
            await limited.ping()
    assert _PASSWORD not in str(refused.value)


async def test_a_redis_that_cannot_save(
    master: RedisServer, store: SealedStore, tmp_path: Path, make_speaker: MakeSpeaker
) -> None:
    master.command("CONFIG", "SET", "appendonly", "no")
    master.command("CONFIG", "SET", "save", "1 1")
    dump = tmp_path / "master" / "dump.rdb"
    dump.mkdir()  # so that no dump can take its name
    (dump / "file").touch()
    speaker = await store.put(make_speaker(), expected_etag=None)
    master.command("BGSAVE")
    while b"rdb_last_bgsave_status:err" not in master.command("INFO", "persistence"):
        pass
    with pytest.raises(Unavailable, match=r"MISCONF.*free its disk"):
        await store.ping()
    with pytest.raises(Unavailable, match="MISCONF"):
        await store.put(speaker, expected_etag=speaker.etag)


async def test_a_key_of_another_type(
    master: RedisServer, store: SealedStore, make_speaker: MakeSpeaker
) -> None:
    tenant = make_speaker().tenant
    master.command("SET", f"sayso:{{{tenant}}}:speakers", "a list of another application")
    with pytest.raises(Unavailable, match="another application writes to this database"):
        await store.put(make_speaker(), expected_etag=None)


async def test_wrong_credentials(master: RedisServer) -> None:
    url = f"redis://nobody:{_PASSWORD}@127.0.0.1:{master.port}/0"
    async with open_store(url, timeout_s=5.0) as refused:
        with pytest.raises(Unavailable, match="credentials") as error:
            await refused.ping()
    assert _PASSWORD not in str(error.value)


async def test_a_full_redis_is_still_read(
    master: RedisServer, store: SealedStore, make_speaker: MakeSpeaker
) -> None:
    speaker = await store.put(make_speaker(), expected_etag=None)
    master.command("CONFIG", "SET", "maxmemory", "1")
    await store.ping()
    assert await store.get(speaker.tenant, "alice") == speaker
    with pytest.raises(Unavailable, match="is full"):
        await store.put(speaker, expected_etag=speaker.etag)


async def test_each_master_of_a_cluster_is_asked(cluster: list[RedisServer]) -> None:
    first, second, third = cluster
    url = f"redis+cluster://127.0.0.1:{first.port},127.0.0.1:{second.port}"
    async with open_store(url, timeout_s=5.0) as store:
        await store.ping()
        third.command("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        try:
            with pytest.raises(Unavailable, match="allkeys-random"):
                await store.ping()
        finally:
            third.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await store.ping()
