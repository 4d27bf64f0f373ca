"""Clients that mean no good: connections that say nothing, streams that trickle, floods."""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
from sayso.v1 import audio_pb2
from sayso.v1 import verification_pb2 as pb

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_RAW = audio_pb2.AudioConfig(encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=8000)
_SERVICE = "/sayso.v1.VerificationService/"
_OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
_EACH = 50  # calls on a connection, of the 100 that gRPC allows
FLOODING = 20


@contextmanager
def connections(
    address: str, count: int, *, patience_s: float = 30.0
) -> Iterator[Sequence[socket.socket]]:
    """So many that began to speak HTTP/2, were answered, and say nothing more."""
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            connection = socket.create_connection((host, int(port)), timeout=patience_s)
            stack.enter_context(connection)
            connection.sendall(_PREFACE)
            opened.append(connection)
        for connection in opened:
            assert connection.recv(64), "the server closed the connection"
        yield opened


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def peak_mb(pid: int) -> float:
    """The most memory that a process was ever resident in."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def _method(channel: grpc.aio.Channel, name: str, kind: str) -> Any:
    return getattr(channel, kind)(
        _SERVICE + name,
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=getattr(pb, f"{name}Response").FromString,
    )


def _channels(address: str, count: int) -> list[grpc.aio.Channel]:
    """Each a connection of its own."""
    return [grpc.aio.insecure_channel(address, options=_OWN) for _ in range(count)]


class Trickle:
    """`count` verified calls that send one byte of audio a second, under `async with`."""

    def __init__(self, address: str, speaker_id: str, count: int) -> None:
        self._address = address
        self._speaker_id = speaker_id
        self._count = count
        self._calls: list[Any] = []

    async def __aenter__(self) -> "Trickle":
        self._channels = _channels(self._address, -(-self._count // _EACH))
        config = pb.StreamingVerifyConfig(speaker_id=self._speaker_id, audio_config=_RAW)
        for number in range(self._count):
            channel = self._channels[number // _EACH]
            call = _method(channel, "StreamingVerify", "stream_stream")()
            self._calls.append(call)
        await self._say(pb.StreamingVerifyRequest(config=config))
        await self.send()
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in self._calls:
            call.cancel()
        for channel in self._channels:
            await channel.close()

    async def send(self) -> None:
        await self._say(pb.StreamingVerifyRequest(audio=b"\xff"))

    async def _say(self, request: pb.StreamingVerifyRequest) -> None:
        """A call that was refused has ended."""
        said = (call.write(request) for call in self._calls)
        await asyncio.gather(*said, return_exceptions=True)

    async def trickle(self, seconds: int) -> None:
        for _ in range(seconds):
            await asyncio.sleep(1.0)
            await self.send()

    @property
    def open(self) -> int:
        return sum(not call.done() for call in self._calls)

    async def codes(self) -> set[str]:
        """How those ended that did; a call that was being written to is INTERNAL to grpc.aio."""
        return {(await call.code()).name for call in self._calls if call.done()} - {"INTERNAL"}


async def flood(address: str, request: pb.EmbedRequest, count: int) -> Counter[str]:
    """How so many calls that are made at once on `FLOODING` connections end."""
    ended: Counter[str] = Counter()
    channels = _channels(address, FLOODING)

    async def embed(number: int) -> None:
        try:
            await _method(channels[number % FLOODING], "Embed", "unary_unary")(request, timeout=120)
            ended["OK"] += 1
        except grpc.aio.AioRpcError as error:
            ended[error.code().name] += 1

    await asyncio.gather(*map(embed, range(count)))
    for channel in channels:
        await channel.close()
    return ended


async def with_metadata(address: str, size: int) -> str:
    """How a call ends that carries so many bytes of metadata."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            embed = _method(channel, "Embed", "unary_unary")
            await embed(pb.EmbedRequest(), timeout=30, metadata=(("x-much", "m" * size),))
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
    return "OK"
