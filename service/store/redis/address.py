"""Parses a Redis address: servers, mode, credentials and options.

redis://[user:password@]host[:port][/db]        rediss:// in place of redis:// for TLS
redis+sentinel://host[:port],.../group[?db=n]   ?sentinel_username= and ?sentinel_password= too
redis+cluster://host[:port],...

User and password are percent-encoded. No error quotes any part of an address: in a malformed one
any part may belong to the password.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from service.errors import StoreError

_EXAMPLE = "redis://user:password@host:6379/0"
# The @ after the credentials comes before any / ? or #; a later one shows that a password has one.
_UNENCODED = re.compile(r"[^:/]+://(?:[^/?#]*[/?#].*@|.*#)")
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
        """Raise StoreError, without any part of the address in its message."""
        if _UNENCODED.match(url):
            raise StoreError(
                "the Redis address cannot be read: a user or password that contains any of / ? # @ "
                ": % is percent-encoded in it, e.g. # as %23 and / as %2F"
            )
        try:
            parts = urlsplit(url)
            base, _, suffix = parts.scheme.partition("+")
            mode = Mode(suffix or "single")
            username, password, nodes = _parse_authority(parts, mode)
            query = _parse_query(parts, mode, tls=base == "rediss")
            group = unquote(parts.path[1:]) if mode is Mode.SENTINEL else ""
            db = query.get("db", "0") if mode is Mode.SENTINEL else parts.path[1:] or "0"
        except ValueError:
            # without its message or traceback, which may quote the password
            raise StoreError(f"the Redis address cannot be read; it is like {_EXAMPLE}") from None
        if base not in ("redis", "rediss"):
            raise StoreError(f"a Redis address is like {_EXAMPLE}")
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


def _parse_authority(
    parts: SplitResult, mode: Mode
) -> tuple[str | None, str | None, tuple[tuple[str, int], ...]]:
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    port = _SENTINEL_PORT if mode is Mode.SENTINEL else _PORT
    nodes = tuple(_parse_node(host, port) for host in hosts.split(","))
    return unquote(username) or None, unquote(password) or None, nodes


def _parse_node(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, default_port if parts.port is None else parts.port


def _parse_query(parts: SplitResult, mode: Mode, *, tls: bool) -> dict[str, str]:
    query = dict(parse_qsl(parts.query))
    known = (_TLS_OPTIONS if tls else frozenset()) | (
        _SENTINEL_OPTIONS if mode is Mode.SENTINEL else frozenset()
    )
    if query.keys() - known:
        allowed = f"the options {', '.join(sorted(known))}" if known else "no options"
        raise StoreError(
            f"a Redis address of this kind has {allowed}; a ? or & in a password is written %3F "
            "or %26"
        )
    return query


def hide_password(url: str) -> str:
    """A store's address as it may be shown: without user, password and options."""
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite":
        return url
    if not separator or _UNENCODED.match(url):
        return "***"
    _, at, hosts = rest.rpartition("@")
    return f"{scheme}://{'***@' if at else ''}{hosts.partition('?')[0]}"
