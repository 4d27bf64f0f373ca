"""Checks that a Redis is fit to keep voices: a master that takes writes, runs scripts and never
evicts a key. Explains its errors in words that repeat neither keys nor credentials.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, TypeAlias

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

Client: TypeAlias = Redis | RedisCluster

REPLICA = (
    "the store's Redis is a replica, which is read-only or loses what is written to it: give the "
    "address of the master, or that of Sentinels, which follow it"
)
_EVICTS = (
    "the store's Redis may evict voices and locks when it is full (maxmemory-policy {}): set "
    "maxmemory-policy noeviction"
)
_NO_PERMISSION = (
    "the store's Redis denies its user a command or a key that Sayso needs: allow what "
    "deploy/redis/users.acl allows"
)
_FULL = "the store's Redis is full (OOM, maxmemory): raise maxmemory, or erase voices"
_NO_ANSWER = "the store's Redis did not answer in time"

_BY_KIND: tuple[tuple[type[Exception], str], ...] = (
    (ReadOnlyError, REPLICA),
    (MasterDownError, REPLICA),
    (NoPermissionError, _NO_PERMISSION),
    (OutOfMemoryError, _FULL),
    (AuthenticationError, "the store's Redis does not take the credentials in its address"),
    (BusyLoadingError, "the store's Redis is still loading what it keeps"),
    (TimeoutError, _NO_ANSWER),
    (RedisTimeoutError, _NO_ANSWER),
)
_BY_WORD: Mapping[str, str] = {
    "READONLY": REPLICA,
    "NOPERM": _NO_PERMISSION,
    "ACL failure in script": _NO_PERMISSION,
    "The user executing the script can't": _NO_PERMISSION,
    "OOM": _FULL,
    "WRONGPASS": "the store's Redis does not take the credentials in its address",
    "NOAUTH": "the store's Redis wants credentials: put them into its address",
    "MISCONF": (
        "the store's Redis refuses writes, as it cannot save what it keeps (MISCONF): free its "
        "disk, or mend the permissions of its folder"
    ),
    "NOREPLICAS": (
        "the store's Redis refuses writes, as too few replicas follow it (min-replicas-to-write)"
    ),
    "CLUSTERDOWN": "the store's Redis Cluster is down: some of its slots are served by no node",
    "WRONGTYPE": (
        "a key of the store in Redis holds another type of value (WRONGTYPE): another application "
        "writes to this database; give Sayso one of its own, and restore the key from a backup"
    ),
}

_WRITE = "return redis.call('SET', KEYS[1], ARGV[1], 'EX', 60)"
_NODE_S = 0.25
_PROBE = b"sayso:ping"


async def write_by_script(client: Client) -> None:
    """Write by a script; raises redis-py's errors, but none for a full Redis: it can be read."""
    try:
        await client.eval(_WRITE, 1, _PROBE, b"1")
    except RedisError as error:
        if explain(error) != _FULL:
            raise


async def find_fault(client: Client, *, follows_master: bool) -> str | None:
    """Say why this Redis must not be used, or None.

    With `follows_master` a replica is no fault: it is left of a failover, and soon replaced.
    """
    for section in [await _read_info(client, name) for name in ("replication", "memory")]:
        for node in section:
            if node.get("role", "master") != "master" and not follows_master:
                return REPLICA
            if (policy := node.get("maxmemory_policy", "noeviction")) != "noeviction":
                return _EVICTS.format(policy)
    return None


def explain(error: Exception) -> str:
    """Say what went wrong, and what the operator can do about it."""
    for kind, reason in _BY_KIND:
        if isinstance(error, kind):
            return reason
    text = str(error)
    for word, reason in _BY_WORD.items():
        if word in text:
            return reason
    return f"the store failed: {type(error).__name__}"


async def _read_info(client: Client, section: str) -> list[Mapping[str, Any]]:
    """The section of INFO of the only Redis, or of each master of a Cluster that answers. A master
    that is away is no fault of the others, which serve other tenants."""
    if isinstance(client, Redis):
        return [await client.info(section)]
    calls = (_read_node_info(client, node, section) for node in client.get_primaries())
    answers = [info for info in await asyncio.gather(*calls) if info is not None]
    if not answers:
        raise RedisTimeoutError
    return answers


async def _read_node_info(
    client: RedisCluster, node: ClusterNode, section: str
) -> Mapping[str, Any] | None:
    try:
        async with asyncio.timeout(_NODE_S):
            info: Mapping[str, Any] = await client.info(section, target_nodes=node)
            return info
    except (RedisConnectionError, RedisTimeoutError, OSError):
        return None
