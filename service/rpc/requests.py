"""Reading requests: a recording in one message, or a stream of config and then audio."""

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from service.access import Role, current
from service.audio.formats import AudioFormat
from service.errors import AudioError, InvalidArgument
from service.inference.embedder import AudioSource, Stream

Context = grpc.aio.ServicerContext[Any, Any]

MAX_CHUNK_BYTES = 15 * 1024
"""The most audio in one stream message."""


def tenant() -> str:
    """Whose speakers this call is about: the credential says so, never the message."""
    return current().tenant


def sees_scores() -> bool:
    """Whether the caller of this call may be told scores."""
    return Role.ANALYZE in current().roles


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """`max_s` and `max_bytes` bound a recording, `max_call_s` a call that is verified as it comes.
    `charge` is what `AudioSource` explains."""

    max_s: float
    max_bytes: int
    max_call_s: float
    charge: Callable[[float], None]

    def recording(self, fmt: AudioFormat) -> AudioSource:
        """Raises `AudioError` for a format that no audio has."""
        fmt.check()
        return AudioSource(fmt, self.max_s, self.charge)

    def call(self, fmt: AudioFormat) -> AudioSource:
        """As `recording`; a file is a recording, however it is sent."""
        fmt.check()
        return AudioSource(fmt, self.max_s if fmt.is_file else self.max_call_s, self.charge)

    def check_size(self, audio: bytes) -> bytes:
        """The audio of a whole recording; raises `AudioError` if there is too much of it."""
        if len(audio) > self.max_bytes:
            raise AudioError(f"the audio exceeds {self.max_bytes} bytes; send less of it")
        return audio

    def call_bytes(self, fmt: AudioFormat) -> float:
        """What a call may send: a file is held whole, raw samples are only counted in seconds."""
        return self.max_bytes if fmt.is_file else math.inf


async def opening(requests: AsyncIterator[Any]) -> Any:
    """The config that a stream of `oneof payload {config, audio}` begins with."""
    async for request in requests:
        if request.WhichOneof("payload") != "config":
            raise InvalidArgument("must be the first message of the stream", field="config")
        return request.config
    raise InvalidArgument("the stream ended without one; send it first", field="config")


async def blocks(
    requests: AsyncIterator[Any], stream: Stream, *, max_bytes: float
) -> AsyncIterator[bytes]:
    """The audio of the messages after the config, at most `max_bytes` in all, in blocks that are
    worth a push into `stream`: what smaller messages bring is collected."""
    room, block, enough = max_bytes, bytearray(), stream.block_bytes
    async for request in requests:
        match request.WhichOneof("payload"):
            case "config":
                raise InvalidArgument("was sent twice; send it once, first", field="config")
            case None:
                raise InvalidArgument("a message held neither config nor audio", field="audio")
        audio = request.audio
        if len(audio) > MAX_CHUNK_BYTES:
            raise AudioError(f"a message held over {MAX_CHUNK_BYTES} bytes; send smaller ones")
        room -= len(audio)
        if room < 0:
            raise AudioError(f"the stream exceeds {max_bytes:.0f} bytes; send less audio")
        block += audio
        if len(block) >= enough:
            yield bytes(block)
            block.clear()
            enough = stream.block_bytes
    if block:
        yield bytes(block)
