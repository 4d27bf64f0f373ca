"""Calls one Redis, a Sentinel group or a Cluster, within a limit of time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import Unavailable
from service.store.redis.address import Address, Mode
from service.store.redis.cluster import Cluster
from service.store.redis.health import REPLICA, Client, explain, find_fault, write_by_script
from service.store.redis.sentinel import Sentinels

Hash: TypeAlias = Mapping[bytes, bytes]

_BACKOFF = ExponentialWithJitterBackoff(base=0.01, cap=0.1)
_RETRIES = 5
_SCANNED = 1000  # keys that Redis looks at for one answer
_FAILED = (RedisError, RedisClusterException, OSError)
_RETRIED = (RedisConnectionError, RedisTimeoutError, ReadOnlyError)


class RedisConnection:
    """Connects when first asked. A call raises Unavailable unless it is answered in `timeout_s`,
    which includes retries and the wait for one of `max_connections`.

    Reads return a ResponseError in place of a value whose key holds another type.
    """

    def __init__(
        self,
        client: Client,
        *,
        sentinels: Sentinels | None,
        timeout_s: float,
        max_connections: int,
    ) -> None:
        self._client = client
        self._sentinels = sentinels
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(max_connections)
        self._fault: str | None = None

    @classmethod
    def from_url(cls, url: str, timeout_s: float, max_connections: int) -> Self:
        """Raise StoreError unless `Address.parse` reads the URL."""
        address = Address.parse(url)
        options = {
            "username": address.username,
            "password": address.password,
            "max_connections": max_connections,
            "retry": Retry(_BACKOFF, _RETRIES, _RETRIED),
            # `_ask_in_time` keeps the time: with a socket timeout redis-py sends under
            # `asyncio.wait_for`, which up to Python 3.11 can swallow a cancellation.
            "socket_timeout": None,
            "socket_connect_timeout": timeout_s / 2,
            # In RESP3 redis-py takes a connection from its pool even if an old reply is unread.
            "protocol": 2,
            **address.tls,
        }
        client, sentinels = _CONNECTORS[address.mode](address, options)
        return cls(
            client, sentinels=sentinels, timeout_s=timeout_s, max_connections=max_connections
        )

    async def aclose(self) -> None:
        if isinstance(self._client, Cluster):
            await self._client.shut_down()
        else:
            await self._client.aclose()
        if self._sentinels is not None:
            await self._sentinels.aclose()

    async def ping(self) -> None:
        """Raise Unavailable if Redis is away or not fit to keep voices; as long as it is not fit,
        so do all other calls."""
        follows_master = self._sentinels is not None
        try:
            await self._ask_in_time(write_by_script)
        except Unavailable as error:
            stale = error.message == REPLICA and not follows_master
            self._fault = REPLICA if stale else None
            raise
        self._fault = await self._ask_in_time(partial(find_fault, follows_master=follows_master))
        if self._fault is not None:
            raise Unavailable(self._fault)

    async def call(self, work: Callable[[Client], Awaitable[Any]]) -> Any:
        """Do `work`, which may be done twice."""
        if self._fault is not None:
            raise Unavailable(self._fault)
        return await self._ask_in_time(work)

    async def evaluate(
        self, script: str, keys: Sequence[bytes], args: Sequence[str | bytes | int]
    ) -> Any:
        """Run a Lua script."""
        return await self.call(lambda client: client.eval(script, len(keys), *keys, *args))

    async def read_hash(self, key: bytes) -> Hash | ResponseError:
        fields: Hash | ResponseError = await self.call(partial(_read_hash, key=key))
        return fields

    async def read_hash_and_string(
        self, hash_key: bytes, string_key: bytes
    ) -> tuple[Hash | ResponseError, bytes | None]:
        """Read two keys of one tenant in one round trip."""

        async def read(client: Client) -> tuple[Hash | ResponseError, bytes | None]:
            pipeline = client.pipeline(transaction=False)
            pipeline.hgetall(hash_key)
            pipeline.get(string_key)
            fields, value = await pipeline.execute(raise_on_error=False)
            _raise_unless_wrong_type([fields])
            if isinstance(value, Exception):
                raise value
            return fields, value

        fields, value = await self.call(read)
        return fields, value

    async def read_hashes(self, keys: Sequence[bytes]) -> Sequence[Hash | ResponseError]:
        async def read(client: Client) -> Sequence[Any]:
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.hgetall(key)
            return _raise_unless_wrong_type(await pipeline.execute(raise_on_error=False))

        hashes: Sequence[Hash | ResponseError] = await self.call(read)
        return hashes

    async def read_field(
        self, keys: Sequence[bytes], field: str
    ) -> Sequence[bytes | ResponseError | None]:
        """Read one field of several hashes."""

        async def read(client: Client) -> Sequence[Any]:
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.hget(key, field)
            return _raise_unless_wrong_type(await pipeline.execute(raise_on_error=False))

        values: Sequence[bytes | ResponseError | None] = await self.call(read)
        return values

    async def scan(self, pattern: bytes) -> AsyncIterator[Sequence[bytes]]:
        """List names of keys, one round trip at a time. Each of them has `timeout_s`, however many
        keys there are and however few match."""
        if isinstance(self._client, Redis):
            cursor, is_last = 0, False
            while not is_last:
                cursor, names = await self.call(partial(_scan, match=pattern, cursor=cursor))
                yield names
                is_last = not cursor
            return
        cursors, names = await self.call(partial(_scan, match=pattern))
        yield names
        for name, cursor in cursors.items():
            scan_node = partial(
                _scan, match=pattern, target_nodes=self._client.get_node(node_name=name)
            )
            while cursor:
                next_cursors, names = await self.call(partial(scan_node, cursor=cursor))
                cursor = next_cursors[name]  # noqa: PLW2901
                yield names

    async def _ask_in_time(self, work: Callable[[Client], Awaitable[Any]]) -> Any:
        """Do `work`, and again if the connection fails or half of the time is over.

        Only a new command makes redis-py ask the Sentinels again where the master is.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._free:
                with contextlib.suppress(TimeoutError, RedisConnectionError):
                    async with asyncio.timeout(self._timeout_s / 2):
                        return await work(self._client)
                return await work(self._client)
        except _FAILED as error:
            raise Unavailable(explain(error)) from error


async def _scan(client: Client, **options: Any) -> Any:
    return await client.scan(count=_SCANNED, **options)


async def _read_hash(client: Client, key: bytes) -> Hash | ResponseError:
    try:
        fields: Hash = await client.hgetall(key)  # type: ignore[assignment]
    except ResponseError as error:
        if not _is_wrong_type(error):
            raise
        return error
    return fields


def _raise_unless_wrong_type(replies: Sequence[Any]) -> Sequence[Any]:
    """Return the replies; raises the first error that is not about the type of a single key."""
    for reply in replies:
        if isinstance(reply, Exception) and not _is_wrong_type(reply):
            raise reply
    return replies


def _is_wrong_type(error: Exception) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")


def _connect_single(
    address: Address, options: Mapping[str, Any]
) -> tuple[Client, Sentinels | None]:
    (host, port), *_ = address.nodes
    return Redis(host=host, port=port, db=address.db, **options), None


def _connect_sentinel(
    address: Address, options: Mapping[str, Any]
) -> tuple[Client, Sentinels | None]:
    credentials = {"username": address.sentinel_username, "password": address.sentinel_password}
    sentinel = Sentinels(  # type: ignore[no-untyped-call]
        address.nodes,
        sentinel_kwargs={**options, **credentials},
        db=address.db,
        **options,
    )
    return sentinel.master_for(address.group), sentinel


def _connect_cluster(
    address: Address, options: Mapping[str, Any]
) -> tuple[Client, Sentinels | None]:
    nodes = [ClusterNode(host, port) for host, port in address.nodes]
    return Cluster(startup_nodes=nodes, require_full_coverage=False, **options), None


_CONNECTORS = {
    Mode.SINGLE: _connect_single,
    Mode.SENTINEL: _connect_sentinel,
    Mode.CLUSTER: _connect_cluster,
}
