"""JSON events over a WebSocket: what Twilio and the dialects of its protocol share.

connected ─> start ─> media ... media ─> stop
               │        └─ audio of the caller's track, in base64
               └─ a call, its claim, its format
"""

import base64
import binascii
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sayso import Decision, RawAudio

from gateway.calls import Calls, CallStart
from gateway.errors import ProtocolError
from gateway.sockets import Socket, parse_object, read_text

_ENCODINGS = {
    "audio/x-mulaw": "MULAW",
    "PCMU": "MULAW",
    "audio/x-alaw": "ALAW",
    "PCMA": "ALAW",
    "audio/x-l16": "LINEAR16",
}


@dataclass(frozen=True, slots=True)
class Media:
    """A frame of the caller's audio; `chunk` counts the frames of the track."""

    audio: bytes
    chunk: int


class Stop:
    """The platform ended the stream."""


Event = CallStart | Media | Stop | None
"""None is an event without meaning here."""

Parse = Callable[[Mapping[str, Any]], Event]
"""Read one message of a dialect; raises `ProtocolError` or `CallRefused`."""


class Order(Protocol):
    """Puts frames in their order."""

    def add(self, media: Media) -> list[Media]:
        """Take the next frame that came, give those whose turn it is."""
        ...

    def rest(self) -> list[Media]:
        """The frames that are left when the stream ends."""
        ...


class AsTheyCome:
    """The order of platforms that keep it."""

    def add(self, media: Media) -> list[Media]:
        return [media]

    def rest(self) -> list[Media]:
        return []


async def verify_stream(
    socket: Socket,
    calls: Calls,
    parse: Parse,
    *,
    make_order: Callable[[], Order] = AsTheyCome,
    hangs_up: bool = False,
) -> None:
    """Verify the one call of a stream; nothing is ever written. With `hangs_up` this returns at the
    last decision, so that the stream is closed and the platform goes on with the call.

    Raises `ProtocolError` and `CallRefused`.
    """
    events, order = read_events(socket, parse), make_order()
    start = await read_start(events)
    if start is None:
        return
    async with calls.open(start, ignore) as call:
        async for event in events:
            if isinstance(event, CallStart):
                raise ProtocolError("a second start")
            if isinstance(event, Stop):
                break
            if call.done:
                if not hangs_up:
                    await skip_rest(socket)
                return
            if isinstance(event, Media):
                for media in order.add(event):
                    await call.hear(media.audio)
        for media in order.rest():
            await call.hear(media.audio)


async def skip_rest(socket: Socket) -> None:
    """Let the platform send on until its call ends, without parsing what it sends."""
    async for message in socket.messages():
        if isinstance(message, str) and '"stop"' in message:
            return


async def read_events(socket: Socket, parse: Parse) -> AsyncIterator[Event]:
    async for message in socket.messages():
        yield parse(parse_object(message))


async def read_start(events: AsyncIterator[Event]) -> CallStart | None:
    """The first event that says something; None if the stream ends before."""
    async for event in events:
        if isinstance(event, CallStart):
            return event
        if isinstance(event, Media):
            raise ProtocolError("media before start")
        if isinstance(event, Stop):
            return None
    return None


async def ignore(decision: Decision) -> None:
    """Streams of this kind have no message for a decision."""


def parse_payload(media: Mapping[str, Any]) -> bytes:
    """The audio of a media event; raises `ProtocolError`."""
    try:
        return base64.b64decode(read_text(media, "payload"), validate=True)
    except (binascii.Error, ValueError):
        raise ProtocolError("a payload is not base64") from None


def parse_format(encoding: str, sample_rate: int) -> RawAudio:
    """The format of a stream, of one channel; raises `ProtocolError` for one that is not taken."""
    if encoding not in _ENCODINGS:
        raise ProtocolError(
            f"the stream is {encoding[:40]!r}; have the platform send mu-law, A-law or L16"
        )
    if not 8000 <= sample_rate <= 48000:
        raise ProtocolError("the sample rate is not 8000 to 48000 Hz")
    return RawAudio(_ENCODINGS[encoding], sample_rate)
