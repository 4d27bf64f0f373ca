"""What is Redis' own: going away and coming back, retries, persistence, other ways to reach it."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio.sentinel import MasterNotFoundError

from service.errors import StoreError, Unavailable
from service.store import Speaker, Store, open_store
from service.store.redis.address import Address, Mode
from service.store.redis.connection import RedisConnection
from service.store.redis.sentinel import Sentinels
from tests.support.redis_server import RedisServer

MakeSpeaker = Callable[..., Speaker]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to be taken away."""
    with RedisServer(tmp_path) as started:
        yield started


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[Store]:
    async with open_store(server.url, timeout_s=2.0) as opened:
        yield opened


def _calls(store: Store, speaker: Speaker) -> list[Callable[[], Awaitable[object]]]:
    tenant, speaker_id = speaker.tenant, speaker.speaker_id
    return [
        store.ping,
        lambda: store.get(tenant, speaker_id),
        lambda: store.list(tenant, limit=10),
        lambda: store.put(speaker, expected_etag=speaker.etag),
        lambda: store.delete(tenant, "somebody else"),
        lambda: store.touch(tenant, speaker_id, "model-a", at=1.0),
    ]


async def _all_unavailable(store: Store, speaker: Speaker) -> None:
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(
            *(call() for call in _calls(store, speaker)), return_exceptions=True
        )
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 6


async def _recover(store: Store) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.ping()
            except Unavailable:
                await asyncio.sleep(0.02)


async def test_killed_and_restarted(
    server: RedisServer, store: Store, make_speaker: MakeSpeaker
) -> None:
    written = await store.put(make_speaker(vectors=5), expected_etag=None)
    server.kill()
    await _all_unavailable(store, written)
    server.start()
    await _recover(store)
    assert await store.get(written.tenant, "alice") == written
    await store.put(replace(written, metadata={"n": "2"}), expected_etag=written.etag)


async def test_restarted_between_calls(
    server: RedisServer, store: Store, make_speaker: MakeSpeaker
) -> None:
    """Connections in the pool are dead, and the scripts are gone: no call notices."""
    first = await store.put(make_speaker(), expected_etag=None)
    await asyncio.gather(*(store.ping() for _ in range(10)))
    server.kill()
    server.start()
    second = await store.put(replace(first, metadata={"n": "2"}), expected_etag=first.etag)
    assert await store.get(first.tenant, "alice") == second


async def test_paused(server: RedisServer, store: Store, make_speaker: MakeSpeaker) -> None:
    written = await store.put(make_speaker(), expected_etag=None)
    server.pause()
    try:
        await _all_unavailable(store, written)
    finally:
        server.resume()
    await _recover(store)
    assert await store.get(written.tenant, "alice") is not None
    assert await store.delete(written.tenant, "alice")


async def test_no_call_outlasts_the_patience(
    server: RedisServer, make_speaker: MakeSpeaker
) -> None:
    """Paused while calls come, more than there are connections: with connections that are open,
    with none, and in the middle of opening them, where a password and a database are sent."""
    assert server.command("CONFIG", "SET", "requirepass", "secret") == b"+OK\r\n"
    url = f"redis://:secret@127.0.0.1:{server.port}/3"
    took_s: list[float] = []

    async def timed(call: Awaitable[object]) -> None:
        began_s = time.monotonic()
        with contextlib.suppress(Unavailable):
            await call
        took_s.append(time.monotonic() - began_s)

    async with open_store(url) as warm, open_store(url) as cold:
        alice = await warm.put(make_speaker(), expected_etag=None)
        await asyncio.gather(*(warm.get(alice.tenant, "alice") for _ in range(20)))
        async with asyncio.TaskGroup() as calls:
            for number in range(150):
                if number == 10:
                    server.pause()
                for store in (warm, cold):
                    calls.create_task(timed(store.get(alice.tenant, "alice")))
                    calls.create_task(timed(store.failures.get(alice.tenant, "alice")))
                await asyncio.sleep(0.01)
            calls.create_task(timed(cold.tenants()))
        assert max(took_s) < 2.0
        server.resume()
        for store in (warm, cold):
            await _recover(store)
            assert await store.get(alice.tenant, "alice") == alice
            assert await store.tenants() == [alice.tenant]


async def test_away_at_start(server: RedisServer) -> None:
    server.kill()
    async with open_store(server.url) as store:
        with pytest.raises(Unavailable):
            await store.ping()
        server.start()
        await _recover(store)


async def test_full(server: RedisServer, store: Store, make_speaker: MakeSpeaker) -> None:
    """A write that does not fit leaves what is there whole; reading and erasing go on."""
    first = await store.put(make_speaker(), expected_etag=None)
    server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Unavailable, match="OOM"):
        await store.put(replace(first, voiceprints={}), expected_etag=first.etag)
    assert await store.get(first.tenant, "alice") == first
    assert await store.delete(first.tenant, "alice")


async def test_more_callers_than_connections(
    server: RedisServer, make_speaker: MakeSpeaker
) -> None:
    async with open_store(server.url, timeout_s=20.0) as store:
        written = await store.put(make_speaker(), expected_etag=None)
        found = await asyncio.gather(*(store.get(written.tenant, "alice") for _ in range(500)))
        assert found == [written] * 500
        clients = server.command("INFO", "clients").decode()
        assert 1 < int(clients.partition("connected_clients:")[2].split()[0]) <= 65


class LostReplies:
    """A proxy in front of Redis that passes a request on, and can lose the reply with the line."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self.losing = 0

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while request := await reader.read(65536):
                upstream_writer.write(request)
                reply = await upstream_reader.read(65536)
                if self.losing and b"EVAL" in request:
                    self.losing -= 1
                    return
                writer.write(reply)
        finally:
            writer.close()
            upstream_writer.close()


async def test_a_write_whose_reply_is_lost_takes_effect_once(
    server: RedisServer, store: Store, make_speaker: MakeSpeaker
) -> None:
    proxy = LostReplies(server.port)
    async with proxy as url, open_store(url) as behind:
        proxy.losing = 2
        first = await behind.put(make_speaker(), expected_etag=None)
        assert await store.get(first.tenant, "alice") == first
        proxy.losing = 2
        second = await behind.put(replace(first, metadata={"n": "2"}), expected_etag=first.etag)
        assert await store.get(first.tenant, "alice") == second
        proxy.losing = 2
        assert await behind.delete(first.tenant, "alice", expected_etag=second.etag)
        assert await store.get(first.tenant, "alice") is None


async def test_a_retried_write_does_not_undo_what_came_between(
    server: RedisServer, store: Store, make_speaker: MakeSpeaker
) -> None:
    """The reply to a creation is lost, and the speaker deleted before the retry: it stays so."""
    proxy = LostReplies(server.port)
    async with proxy as url, open_store(url, timeout_s=5.0) as behind:
        proxy.losing = 1
        creation = asyncio.create_task(behind.put(make_speaker(), expected_etag=None))
        tenant = make_speaker().tenant
        while proxy.losing != 0:
            await asyncio.sleep(0)
        assert await store.delete(tenant, "alice")
        await creation
        assert await store.get(tenant, "alice") is None


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.02)


async def test_sentinel_fails_over(
    server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
    make_speaker: MakeSpeaker,
) -> None:
    """Open connections lead to a master that has become a replica: no call notices."""
    replicating = ("--replicaof", "127.0.0.1", str(server.port))
    folder = tmp_path_factory.mktemp("sentinel")
    config = _sentinel_config(folder, server)
    server.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    with RedisServer(tmp_path_factory.mktemp("replica"), *replicating) as replica:
        await _until(lambda: b"state=online" in server.command("INFO", "replication"))
        with RedisServer(folder, config, "--sentinel") as sentinel:
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}/voices"
            async with open_store(url, timeout_s=5.0) as store:
                first = await store.put(make_speaker(), expected_etag=None)
                await _until(lambda: replica.command("DBSIZE") == server.command("DBSIZE"))
                failover = ("SENTINEL", "FAILOVER", "voices")
                await _until(lambda: sentinel.command(*failover) == b"+OK\r\n")
                new_master = f":{replica.port},".encode()
                await _until(lambda: new_master in sentinel.command("INFO", "sentinel"))
                server.command("REPLICAOF", "127.0.0.1", str(replica.port))
                second = await store.put(replace(first, metadata={}), expected_etag=first.etag)
            async with open_store(replica.url) as store:
                assert await store.get(first.tenant, "alice") == second


@pytest.fixture
def sentinels(
    server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[RedisServer]]:
    """Two of them, and in place of a third one that answers nobody."""
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(3):
            folder = tmp_path_factory.mktemp("sentinel")
            running = RedisServer(folder, _sentinel_config(folder, server), "--sentinel")
            started.append(stack.enter_context(running))
        started[0].pause()
        yield started


async def test_a_silent_sentinel_holds_nobody_up(
    sentinels: list[RedisServer], make_speaker: MakeSpeaker
) -> None:
    nodes = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
    async with open_store(f"redis+sentinel://{nodes}/voices") as store:
        alice = await store.put(make_speaker(), expected_etag=None)
        assert await store.get(alice.tenant, "alice") == alice


@pytest.mark.parametrize("silent", [[0], [0, 1]])
async def test_those_who_answer_are_believed(
    server: RedisServer, sentinels: list[RedisServer], silent: list[int]
) -> None:
    for number in silent:
        sentinels[number].pause()
    asked = Sentinels([("127.0.0.1", each.port) for each in sentinels])
    assert await asked.discover_master("voices") == ("127.0.0.1", server.port)
    with pytest.raises(MasterNotFoundError, match="faces"):
        await asked.discover_master("faces")
    await asked.aclose()


@pytest.mark.parametrize("order", [1, -1])
async def test_the_latest_configuration_is_followed(
    server: RedisServer, tmp_path_factory: pytest.TempPathFactory, order: int
) -> None:
    """One Sentinel has heard of a failover, the other has not yet."""
    before, after = (tmp_path_factory.mktemp(name) for name in ("before", "after"))
    with RedisServer(tmp_path_factory.mktemp("promoted")) as promoted:
        configs = [_sentinel_config(before, server), _sentinel_config(after, promoted, epoch=5)]
        with (
            RedisServer(before, configs[0], "--sentinel") as late,
            RedisServer(after, configs[1], "--sentinel") as latest,
        ):
            nodes = [("127.0.0.1", each.port) for each in (late, latest)][::order]
            asked = Sentinels(nodes)
            assert await asked.discover_master("voices") == ("127.0.0.1", promoted.port)
            await asked.aclose()


def _sentinel_config(folder: Path, server: RedisServer, *, epoch: int = 0) -> str:
    config = folder / "sentinel.conf"
    config.write_text(
        f"sentinel monitor voices 127.0.0.1 {server.port} 1\nsentinel config-epoch voices {epoch}\n"
    )
    return str(config)


async def test_a_cluster_is_found_by_calls_that_are_too_short_to_find_it(
    cluster: list[RedisServer],
) -> None:
    """What one began helps the next; and nothing stays open, which pytest would report."""
    url = f"redis+cluster://127.0.0.1:{cluster[0].port},127.0.0.1:{cluster[1].port}"
    connection = RedisConnection.from_url(url, timeout_s=0.004, max_connections=8)
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(Unavailable):
                assert await connection.read_hash(b"nobody") == {}
                break
    await connection.aclose()
    gc.collect()


async def test_cluster_node_goes_and_comes_back(
    cluster: list[RedisServer], make_speaker: MakeSpeaker
) -> None:
    url = f"redis+cluster://127.0.0.1:{cluster[0].port},127.0.0.1:{cluster[1].port}"
    async with open_store(url, timeout_s=2.0) as store:
        tenants = [f"tenant-{number}" for number in range(12)]
        for tenant in tenants:
            await store.put(make_speaker(tenant=tenant), expected_etag=None)
        cluster[2].pause()
        try:
            outcomes = await asyncio.gather(
                *(store.get(tenant, "alice") for tenant in tenants), return_exceptions=True
            )
            kinds = {type(outcome) for outcome in outcomes}
            assert kinds <= {Speaker, Unavailable}
            assert Unavailable in kinds
        finally:
            cluster[2].resume()
        await _recover(store)
        for tenant in tenants:
            assert await store.get(tenant, "alice") is not None
            assert await store.delete(tenant, "alice")


async def test_password_and_access_list(server: RedisServer, make_speaker: MakeSpeaker) -> None:
    """Its own keys, and no administration, are all that a server needs."""
    rights = ("~sayso:*", "+@all", "-@dangerous", "+info")
    rules = ("ACL", "SETUSER", "say:so", "on", ">p@ss/word", *rights)
    assert server.command(*rules) == b"+OK\r\n"
    async with open_store(f"redis://say%3Aso:p%40ss%2Fword@127.0.0.1:{server.port}/3") as store:
        written = await store.put(make_speaker(), expected_etag=None)
        for call in _calls(store, written):
            await call()
        assert len((await store.list(written.tenant, limit=5)).speakers) == 1
        assert await store.delete(written.tenant, "alice")
    async with open_store(f"redis://say%3Aso:wrong@127.0.0.1:{server.port}/3") as store:
        with pytest.raises(Unavailable, match="credentials"):
            await store.ping()


async def test_tls(tls_server: tuple[str, str], make_speaker: MakeSpeaker) -> None:
    url, certificate = tls_server
    async with open_store(f"{url}?ssl_ca_certs={certificate}") as store:
        written = await store.put(make_speaker(), expected_etag=None)
        assert await store.get(written.tenant, "alice") == written
    async with open_store(url) as store:
        with pytest.raises(Unavailable):
            await store.ping()


@pytest.mark.parametrize(
    ("url", "mode", "nodes", "db", "group"),
    [
        ("redis://one", Mode.SINGLE, (("one", 6379),), 0, ""),
        ("redis://one:7/", Mode.SINGLE, (("one", 7),), 0, ""),
        ("redis://[::1]:7/4", Mode.SINGLE, (("::1", 7),), 4, ""),
        ("redis+cluster://one,two:8", Mode.CLUSTER, (("one", 6379), ("two", 8)), 0, ""),
        ("redis+sentinel://one,two:8/m", Mode.SENTINEL, (("one", 26379), ("two", 8)), 0, "m"),
        ("redis+sentinel://one/m%2F?db=5", Mode.SENTINEL, (("one", 26379),), 5, "m/"),
    ],
)
def test_address(
    url: str, mode: Mode, nodes: tuple[tuple[str, int], ...], db: int, group: str
) -> None:
    address = Address.parse(url)
    assert (address.mode, address.nodes, address.db, address.group) == (mode, nodes, db, group)
    assert address.username is address.password is None
    assert address.tls == {}


def test_address_credentials() -> None:
    address = Address.parse(
        "rediss+sentinel://u%3A:p%40@h/m?sentinel_username=su&sentinel_password=sp&ssl_keyfile=/k"
    )
    assert (address.username, address.password) == ("u:", "p@")
    assert (address.sentinel_username, address.sentinel_password) == ("su", "sp")
    assert address.tls == {"ssl": True, "ssl_keyfile": "/k"}


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://:secret@",
        "redis://u:secret@one,two",
        "redis://u:secret@one:port",
        "redis://u:secret@one:99999",
        "redis://u:secret@one/voices",
        "redis://u:secret@one?db=2",
        "redis://u:secret@one?ssl_keyfile=x",
        "redis+cluster://u:secret@one/2",
        "redis+cluster://u:secret@one,,two",
        "redis+sentinel://u:secret@one",
        "redis+sentinel://u:secret@one/group?db=two",
        "redis+ring://u:secret@one",
        "https://u:secret@one",
        "one:6379",
        "",
    ],
)
def test_malformed_address(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)
