"""A Redis address taken apart: which servers, which mode, which credentials and options.

redis://[user:password@]host[:port][/db]        rediss:// in place of redis:// for TLS
redis+sentinel://host[:port],.../group[?db=n]   ?sentinel_username= and ?sentinel_password= too
redis+cluster://host[:port],...
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from service.errors import StoreError

_PORT = 6379
_SENTINEL_PORT = 26379
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SENTINEL_OPTIONS = frozenset({"db", "sentinel_username", "sentinel_password"})


class Mode(enum.Enum):
    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Address:
    """`group` is Sentinel's name of the master; `tls` holds redis-py's `ssl` options, by name."""

    mode: Mode
    nodes: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None
    db: int
    group: str
    sentinel_username: str | None
    sentinel_password: str | None
    tls: Mapping[str, str | bool]

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises StoreError, without the credentials in its message."""
        try:
            parts = urlsplit(url)
            base, _, suffix = parts.scheme.partition("+")
            mode = Mode(suffix or "single")
            username, password, nodes = _authority(parts, mode)
            query = _query(parts, mode, tls=base == "rediss")
            group = unquote(parts.path[1:]) if mode is Mode.SENTINEL else ""
            db = query.get("db", "0") if mode is Mode.SENTINEL else parts.path[1:] or "0"
        except ValueError as error:
            raise StoreError(f"the Redis address cannot be read: {error}") from error
        if base not in ("redis", "rediss"):
            raise StoreError(f"a Redis address does not begin with {parts.scheme}://")
        if mode is Mode.SENTINEL and not group:
            raise StoreError("a redis+sentinel:// address ends with the name of the master group")
        if not db.isdecimal() or (mode is Mode.CLUSTER and db != "0"):
            raise StoreError("the database in a Redis address is a number, and 0 on a Cluster")
        if mode is Mode.SINGLE and len(nodes) > 1:
            raise StoreError("several Redis hosts need redis+sentinel:// or redis+cluster://")
        return cls(
            mode=mode,
            nodes=nodes,
            username=username,
            password=password,
            db=int(db),
            group=group,
            sentinel_username=query.get("sentinel_username"),
            sentinel_password=query.get("sentinel_password"),
            tls={name: value for name, value in query.items() if name in _TLS_OPTIONS}
            | ({"ssl": True} if base == "rediss" else {}),
        )


def _authority(
    parts: SplitResult, mode: Mode
) -> tuple[str | None, str | None, tuple[tuple[str, int], ...]]:
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    port = _SENTINEL_PORT if mode is Mode.SENTINEL else _PORT
    nodes = tuple(_node(host, port) for host in hosts.split(","))
    return unquote(username) or None, unquote(password) or None, nodes


def _node(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, default_port if parts.port is None else parts.port


def _query(parts: SplitResult, mode: Mode, *, tls: bool) -> dict[str, str]:
    query = dict(parse_qsl(parts.query))
    known = (_TLS_OPTIONS if tls else frozenset()) | (
        _SENTINEL_OPTIONS if mode is Mode.SENTINEL else frozenset()
    )
    if unknown := query.keys() - known:
        raise ValueError(f"{parts.scheme}:// has no option {', '.join(sorted(unknown))}")
    return query
