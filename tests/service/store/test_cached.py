"""What is kept in memory of a Redis is never older than the last reply, on any server."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.store import Speaker, Store, open_store
from service.store.redis.cached import cached
from tests.support.redis_server import RedisServer, free_port

MakeSpeaker = Callable[..., Speaker]

PATIENCE_S = 30.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to be taken away."""
    with RedisServer(tmp_path) as started:
        yield started


class SlowNews:
    """A proxy through which what Redis says comes late, or not at all."""

    def __init__(self, port: int, *, late_s: Callable[[], float] = lambda: 0.0) -> None:
        self._port = port
        self._late_s = late_s
        self._flows = asyncio.Event()
        self._flows.set()
        self._relays: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "SlowNews":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def hold(self) -> None:
        self._flows.clear()

    def release(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        """Closes every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said, asked = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, asked]
        for source, target, news in ((reader, asked, False), (said, writer, True)):
            relay = asyncio.create_task(self._relay(source, target, news=news))
            self._relays.add(relay)

    async def _relay(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, news: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while part := await source.read(65536):
                if news:
                    await asyncio.sleep(self._late_s())
                    await self._flows.wait()
                target.write(part)
        target.transport.abort()


class Reads:
    """A cached store, and whether each read was spared, in order."""

    def __init__(
        self, store: Store, url: str, *, speakers: int = 100, timeout_s: float = 60
    ) -> None:
        self.spared: list[bool] = []
        self.store = cached(
            store, url, speakers=speakers, timeout_s=timeout_s, observe=self.spared.append
        )

    async def __aenter__(self) -> "Reads":
        await self.store.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.__aexit__(None, None, None)

    async def get(self, speaker: Speaker) -> Speaker | None:
        return await self.store.get(speaker.tenant, speaker.speaker_id)

    async def spares(self, speaker: Speaker) -> bool:
        """Whether a read is spared."""
        await self.get(speaker)
        return self.spared[-1]

    async def held(self, speaker: Speaker) -> None:
        """Returns once reads of the speaker are spared."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.spares(speaker):
                await asyncio.sleep(0.01)


def _named(speaker: Speaker, name: str) -> Speaker:
    return replace(speaker, metadata={"name": name})


@pytest.fixture
async def other(server: RedisServer) -> AsyncIterator[Store]:
    """Another server's store, without a cache."""
    async with open_store(server.url, timeout_s=10.0) as opened:
        yield opened


async def test_a_second_read_is_spared(
    server: RedisServer, other: Store, make_speaker: MakeSpeaker
) -> None:
    written = await other.put(make_speaker(), expected_etag=None)
    async with Reads(open_store(server.url), server.url) as reads:
        await reads.held(written)
        assert await reads.get(written) == written
        assert await reads.get(make_speaker("nobody")) is None
        assert not await reads.spares(make_speaker("nobody"))


@pytest.mark.parametrize("own", [True, False], ids=["own", "another"])
async def test_a_write_is_seen_once_it_is_answered(
    server: RedisServer, other: Store, make_speaker: MakeSpeaker, own: bool
) -> None:
    """Even if the news of it comes late."""
    async with (
        SlowNews(server.port, late_s=lambda: 0.05) as news,
        Reads(open_store(server.url), news.url) as reads,
    ):
        store = reads.store if own else other
        written = await other.put(make_speaker(), expected_etag=None)
        await reads.held(written)
        changed = await store.put(_named(written, "new"), expected_etag=written.etag)
        assert await reads.get(written) == changed
        await reads.held(written)
        assert await store.delete(written.tenant, "alice")
        assert await reads.get(written) is None
        again = await store.put(make_speaker(), expected_etag=None)
        assert await reads.get(written) == again
        await reads.held(written)
        await store.touch(written.tenant, "alice", "model-a", at=1e9)
        touched = await reads.get(written)
        assert touched is not None
        assert touched.voiceprints["model-a"].used_at == 1e9


class HeldReads:
    """A store whose reads, once read, wait to be given."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.read = asyncio.Event()
        self.give = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def __aenter__(self) -> None:
        await self._inner.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await self._inner.aclose()

    async def get(self, tenant: str, speaker_id: str) -> Speaker | None:
        found = await self._inner.get(tenant, speaker_id)
        self.read.set()
        await self.give.wait()
        return found


@pytest.mark.parametrize("own", [True, False], ids=["own", "another"])
async def test_what_changes_while_it_is_read_is_not_kept(
    server: RedisServer, other: Store, make_speaker: MakeSpeaker, own: bool
) -> None:
    inner = HeldReads(open_store(server.url))
    inner.give.set()
    async with Reads(inner, server.url) as reads:  # type: ignore[arg-type]
        warm = await other.put(make_speaker("warm"), expected_etag=None)
        await reads.held(warm)
        written = await other.put(make_speaker(), expected_etag=None)
        inner.read.clear()
        inner.give.clear()
        reading = asyncio.create_task(reads.get(written))
        await inner.read.wait()
        store = reads.store if own else other
        changed = await store.put(_named(written, "new"), expected_etag=written.etag)
        inner.give.set()
        assert await reading == written
        assert await reads.get(written) == changed


async def test_a_lost_connection_empties_it(
    server: RedisServer, other: Store, make_speaker: MakeSpeaker
) -> None:
    async with SlowNews(server.port) as news, Reads(open_store(server.url), news.url) as reads:
        written = await other.put(make_speaker(), expected_etag=None)
        await reads.held(written)
        news.cut()
        assert await other.delete(written.tenant, "alice")
        assert await reads.get(written) is None
        again = await other.put(make_speaker(), expected_etag=None)
        await reads.held(again)
        assert await reads.get(written) == again


async def test_without_news_the_store_is_asked(
    server: RedisServer, other: Store, make_speaker: MakeSpeaker
) -> None:
    async with (
        SlowNews(server.port) as news,
        Reads(open_store(server.url), news.url, timeout_s=0.4) as reads,
    ):
        written = await other.put(make_speaker(), expected_etag=None)
        await reads.held(written)
        news.hold()
        assert await other.delete(written.tenant, "alice")
        assert await reads.get(written) is None
        assert not reads.spared[-1]
        news.release()
        again = await other.put(make_speaker(), expected_etag=None)
        await reads.held(again)


async def test_redis_restarted(server: RedisServer, make_speaker: MakeSpeaker) -> None:
    async with Reads(open_store(server.url, timeout_s=10.0), server.url) as reads:
        written = await reads.store.put(make_speaker(), expected_etag=None)
        await reads.held(written)
        server.kill()
        server.start()
        server.command("FLUSHALL")
        assert await reads.get(written) is None


async def test_a_replica_confirms_nothing(
    server: RedisServer, other: Store, make_speaker: MakeSpeaker
) -> None:
    async with Reads(open_store(server.url, timeout_s=10.0), server.url) as reads:
        written = await other.put(make_speaker(), expected_etag=None)
        await reads.held(written)
        server.command("REPLICAOF", "127.0.0.1", str(free_port()))
        assert await reads.get(written) == written
        assert not reads.spared[-1]


async def test_all_keys_dropped(
    server: RedisServer, other: Store, make_speaker: MakeSpeaker
) -> None:
    async with Reads(open_store(server.url), server.url) as reads:
        written = await other.put(make_speaker(), expected_etag=None)
        await reads.held(written)
        server.command("FLUSHALL")
        assert await reads.get(written) is None


async def test_keys_of_a_tenant_erased(
    server: RedisServer, other: Store, make_speaker: MakeSpeaker
) -> None:
    """None of its voices stays in memory; another tenant's do."""
    mine = [make_speaker(name, tenant="mine") for name in ("alice", "bob", "}:keys")]
    theirs = make_speaker("alice", tenant="theirs")
    async with Reads(open_store(server.url), server.url) as reads:
        for speaker in (*mine, theirs):
            await other.put(speaker, expected_etag=None)
            await reads.held(speaker)
        server.command("HSET", "sayso:{mine}:keys", "current", "-1")
        assert not any([await reads.spares(speaker) for speaker in mine])
        assert await reads.spares(theirs)


async def test_holds_so_many(server: RedisServer, other: Store, make_speaker: MakeSpeaker) -> None:
    speakers = [make_speaker(f"s{number}") for number in range(3)]
    for speaker in speakers:
        await other.put(speaker, expected_etag=None)
    async with Reads(open_store(server.url), server.url, speakers=2) as reads:
        first, second, third = speakers
        await reads.held(first)
        await reads.held(second)
        assert await reads.spares(first)
        await reads.held(third)
        assert await reads.spares(first)
        assert not await reads.spares(second)


async def test_password_and_database(server: RedisServer, make_speaker: MakeSpeaker) -> None:
    rights = ("~sayso:*", "+@all", "-@dangerous", "+info")
    rules = ("ACL", "SETUSER", "say:so", "on", ">p@ss/word", *rights)
    assert server.command(*rules) == b"+OK\r\n"
    url = f"redis://say%3Aso:p%40ss%2Fword@127.0.0.1:{server.port}/3"
    async with Reads(open_store(url), url) as reads:
        await reads.held(await reads.store.put(make_speaker(), expected_etag=None))


async def test_tls(tls_server: tuple[str, str], make_speaker: MakeSpeaker) -> None:
    url, certificate = tls_server
    trusting = f"{url}?ssl_ca_certs={certificate}"
    async with Reads(open_store(trusting), trusting) as reads:
        written = await reads.store.put(make_speaker(), expected_etag=None)
        await reads.held(written)
    async with Reads(open_store(trusting), url) as reads:  # does not trust who tells of changes
        assert not any([await reads.spares(written) for _ in range(20)])


async def test_by_way_of_sentinel(sentinel: RedisServer, make_speaker: MakeSpeaker) -> None:
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/voices"
    async with Reads(open_store(url, timeout_s=10.0), url) as reads:
        await reads.held(await reads.store.put(make_speaker(), expected_etag=None))


@pytest.mark.parametrize("url", ["sqlite:///voices.db", "redis+cluster://one,two"])
def test_stores_without(url: str) -> None:
    store = open_store(url)
    assert cached(store, url, speakers=10) is store


def test_none_are_held() -> None:
    store = open_store("redis://one")
    assert cached(store, "redis://one", speakers=0) is store


class Life:
    """One speaker, written by one at a time; what a read that begins now must at least see."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.turn = asyncio.Lock()
        self.written = 0
        self.deletions = [0]

    async def write(self, store: Store, chance: random.Random) -> None:
        async with self.turn:
            number = self.written + 1
            found = await store.get(self.speaker.tenant, self.speaker.speaker_id)
            if found is not None and chance.random() < 0.3:
                self.deletions.append(number)
                await store.delete(found.tenant, found.speaker_id)
            else:
                etag = found.etag if found else None
                await store.put(_named(self.speaker, str(number)), expected_etag=etag)
            self.written = number

    async def read(self, store: Store) -> None:
        least = self.written
        found = await store.get(self.speaker.tenant, self.speaker.speaker_id)
        seen = max(self.deletions) if found is None else int(found.metadata["name"])
        assert seen >= least, "a read that began after a reply saw what was before it"


async def test_no_read_is_older_than_the_last_reply(
    server: RedisServer, make_speaker: MakeSpeaker
) -> None:
    """Two servers that hear late, each write on either, reads of all of them all the time."""
    chance = random.Random(0)
    lives = [Life(make_speaker(f"s{number}")) for number in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for _ in range(2):
            news = SlowNews(server.port, late_s=lambda: chance.choice((0.0, 0.0, 0.02)))
            url = (await stack.enter_async_context(news)).url
            store = open_store(server.url, timeout_s=10.0)
            servers.append(await stack.enter_async_context(Reads(store, url)))
        writing = True

        async def read(store: Store, life: Life) -> None:
            while writing:
                await life.read(store)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as readers:
            for reads in servers:
                for life in lives:
                    readers.create_task(read(reads.store, life))
            for _ in range(150):
                await asyncio.gather(
                    *(life.write(chance.choice(servers).store, chance) for life in lives)
                )
                await asyncio.sleep(chance.choice((0.0, 0.01)))
            writing = False
        assert all(any(reads.spared) for reads in servers)
