"""Asterisk AudioSocket: frames over TCP.

    0x01 UUID ─> 0x10..0x16 samples ... ─> 0x00 hangup, or the connection ends
                 kind says the rate

A frame is kind (1 byte), length (2, big-endian), payload. The UUID is all that the protocol says of
a call and nobody is authenticated, so only announced calls are taken. Nothing is sent back:
Asterisk ends the call at any frame that it does not expect.
"""

import asyncio
import ipaddress
import logging
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from sayso import RawAudio

from gateway import metrics
from gateway.calls import Calls, CallStart
from gateway.connectors.streams import ignore
from gateway.errors import GatewayError, ProtocolError

_HANGUP, _UUID, _DTMF, _ERROR = 0x00, 0x01, 0x03, 0xFF
_RATES = {
    0x10: 8000,
    0x11: 12000,
    0x12: 16000,
    0x13: 24000,
    0x14: 32000,
    0x15: 44100,
    0x16: 48000,
}
_HEADER_BYTES = 3

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    payload: bytes


class AudioSockets:
    """Takes connections, each of one call, from the `allowed` networks."""

    def __init__(
        self,
        calls: Calls,
        allowed: Iterable[Network],
        *,
        max_connections: int,
        start_s: float,
        max_pause_s: float,
    ) -> None:
        self._calls = calls
        self._allowed = tuple(allowed)
        self._max_connections = max_connections
        self._start_s = start_s
        self._max_pause_s = max_pause_s
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until it ends."""
        peer = ipaddress.ip_address(writer.get_extra_info("peername")[0])
        task = asyncio.current_task()
        assert task is not None
        metrics.CONNECTOR.set("audiosocket")
        self._tasks.add(task)
        try:
            if not any(peer in network for network in self._allowed):
                metrics.count_refusal("network")
                log.warning("audiosocket: refused: %s is in no allowed network", peer)
            elif len(self._tasks) > self._max_connections:
                metrics.count_refusal("full")
                log.warning("audiosocket: refused: too many connections")
            else:
                await self._verify(reader)
        except GatewayError as error:
            log.warning("audiosocket: closed: %s", error)
        except ConnectionError as error:
            log.info("audiosocket: the connection broke: %s", error)
        except Exception:
            log.exception("audiosocket failed")
        finally:
            self._tasks.discard(task)
            writer.transport.abort()  # nothing was written that could be lost

    async def close(self) -> None:
        """End the connections that are left."""
        for task in (tasks := tuple(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _verify(self, reader: asyncio.StreamReader) -> None:
        frames = self._read_frames(reader)
        call_id = await _read_call_id(frames)
        async for first in frames:
            if first.kind in _RATES:
                break
        else:
            return
        start = CallStart(call_id, RawAudio("LINEAR16", _RATES[first.kind]))
        async with self._calls.open(start, ignore, announced=True) as call:
            await call.hear(first.payload)
            async for frame in frames:
                if frame.kind == first.kind:
                    await call.hear(frame.payload)
                elif frame.kind in _RATES:
                    raise ProtocolError("the rate changed within the call")

    async def _read_frames(self, reader: asyncio.StreamReader) -> AsyncIterator[Frame]:
        """Yield frames until the call is hung up."""
        wait_s = self._start_s
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    frame = await read_frame(reader)
            except TimeoutError:
                raise ProtocolError(f"nothing came for {wait_s:.0f} s") from None
            if frame is None or frame.kind in (_HANGUP, _ERROR):
                return
            yield frame
            wait_s = self._max_pause_s


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None if the connection ends, be it within one. Raises `ProtocolError`."""
    try:
        kind, *length = await reader.readexactly(_HEADER_BYTES)
        if kind not in _RATES and kind not in (_HANGUP, _UUID, _DTMF, _ERROR):
            raise ProtocolError(f"a frame of kind 0x{kind:02x}")
        return Frame(kind, await reader.readexactly(int.from_bytes(length)))
    except asyncio.IncompleteReadError:
        return None


async def _read_call_id(frames: AsyncIterator[Frame]) -> str:
    async for frame in frames:
        if frame.kind == _UUID and len(frame.payload) == 16:
            return str(uuid.UUID(bytes=frame.payload))
        break
    raise ProtocolError("the first frame is no UUID")


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse networks or addresses that commas separate; raises ValueError."""
    return tuple(ipaddress.ip_network(word.strip()) for word in text.split(","))
