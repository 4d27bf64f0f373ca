"""One RESP3 connection to Redis: commands out; replies, and notices that nobody asked for, in.

redis-py reads what is pushed only with the reply to a next command, and connects again unasked.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

from service.store.redis.address import Address, Mode
from service.store.redis.sentinel import Sentinels

Value: TypeAlias = "bytes | int | list[Value] | None"


class Refused(Exception):
    """Redis answered with an error, or with what is not RESP3."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What Redis pushed: its kind, and what it says."""

    kind: bytes
    body: Sequence[Value]


class Line:
    """A connection that is authenticated and has its database chosen; closed for good once it
    fails. Reading raises OSError, EOFError or `Refused`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: Address) -> Self:
        """To the one server there is, or the one that the Sentinels name."""
        host, port = await _server(address)
        reader, writer = await asyncio.open_connection(host, port, ssl=_tls(address))
        line = cls(reader, writer)
        try:
            await line._greet(address)
        except BaseException:
            line.close()
            raise
        return line

    def send(self, *words: bytes) -> None:
        """Sends a command without waiting."""
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
        self._writer.write(b"".join(parts))

    async def read(self) -> "Value | Notice":
        """The next reply, in the order of the commands, or notice."""
        kind, rest = await self._head()
        if kind != b">":
            return await self._value(kind, rest)
        name, *body = [await self._value(*await self._head()) for _ in range(int(rest))]
        if not isinstance(name, bytes):
            raise Refused("a notice without a name")
        return Notice(name, body)

    def close(self) -> None:
        self._writer.transport.abort()

    async def _greet(self, address: Address) -> None:
        credentials: tuple[bytes, ...] = ()
        if address.password is not None:
            user = (address.username or "default").encode()
            credentials = (b"AUTH", user, address.password.encode())
        self.send(b"HELLO", b"3", *credentials)
        self.send(b"SELECT", b"%d" % address.db)
        for _ in range(2):
            await self.read()

    async def _head(self) -> tuple[bytes, bytes]:
        line = await self._reader.readuntil(b"\r\n")
        return line[:1], line[1:-2]

    async def _value(self, kind: bytes, rest: bytes) -> Value:
        match kind:
            case b"$":
                return (await self._reader.readexactly(int(rest) + 2))[:-2]
            case b"*" | b"~" | b"%":
                count = int(rest) * (2 if kind == b"%" else 1)
                return [await self._value(*await self._head()) for _ in range(count)]
            case b":":
                return int(rest)
            case b"_":
                return None
            case b"+":
                return rest
            case _:
                raise Refused((kind + rest).decode(errors="replace"))


async def _server(address: Address) -> tuple[str, int]:
    if address.mode is Mode.SINGLE:
        return address.nodes[0]
    options = {"username": address.sentinel_username, "password": address.sentinel_password}
    sentinel = Sentinels(  # type: ignore[no-untyped-call]
        address.nodes, sentinel_kwargs={**options, **address.tls}
    )
    try:
        host, port = await sentinel.discover_master(address.group)
    finally:
        await sentinel.aclose()
    return str(host), int(port)


def _tls(address: Address) -> ssl.SSLContext | None:
    if not address.tls:
        return None
    options = {name: str(value) for name, value in address.tls.items()}
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if certificate := options.get("ssl_certfile"):
        context.load_cert_chain(certificate, options.get("ssl_keyfile"))
    return context
