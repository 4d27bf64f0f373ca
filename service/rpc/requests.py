"""Reads audio requests: one message, or a stream of a config followed by audio."""

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


def get_tenant() -> str:
    """Return the tenant of this call, which the credential determines, never the message."""
    return current().tenant


def sees_scores() -> bool:
    """Return whether the caller may see scores."""
    return Role.ANALYZE in current().roles


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """Limits of a recording (`max_s`, `max_bytes`) and of a live call (`max_call_s`). `charge`: see
    `AudioSource`."""

    max_s: float
    max_bytes: int
    max_call_s: float
    charge: Callable[[float], None]

    def open_recording(self, fmt: AudioFormat) -> AudioSource:
        """Open a source for a recording; raises `AudioError` for an invalid format."""
        fmt.check()
        return AudioSource(fmt, self.max_s, self.charge)

    def open_call(self, fmt: AudioFormat) -> AudioSource:
        """Open a source for a live call; a streamed file has the limits of a recording."""
        fmt.check()
        return AudioSource(fmt, self.max_s if fmt.is_file else self.max_call_s, self.charge)

    def check_size(self, audio: bytes) -> bytes:
        """Return the audio of a whole recording; raises `AudioError` if it is too large."""
        if len(audio) > self.max_bytes:
            raise AudioError(f"the audio exceeds {self.max_bytes} bytes; send less of it")
        return audio

    def max_call_bytes(self, fmt: AudioFormat) -> float:
        """Return the limit of a call in bytes: a file is kept in memory as a whole, whereas raw
        samples are limited in seconds only."""
        return self.max_bytes if fmt.is_file else math.inf


async def read_config(requests: AsyncIterator[Any]) -> Any:
    """Read the config that a stream of `oneof payload {config, audio}` must begin with."""
    async for request in requests:
        if request.WhichOneof("payload") != "config":
            raise InvalidArgument("must be the first message of the stream", field="config")
        return request.config
    raise InvalidArgument("the stream ended without one; send it first", field="config")


async def read_blocks(
    requests: AsyncIterator[Any], stream: Stream, *, max_bytes: float
) -> AsyncIterator[bytes]:
    """Yield the audio after the config, at most `max_bytes` in all, in blocks of at least
    `stream.block_bytes`: small messages are collected until a push completes a block of samples."""
    left_bytes, block, block_bytes = max_bytes, bytearray(), stream.block_bytes
    async for request in requests:
        match request.WhichOneof("payload"):
            case "config":
                raise InvalidArgument("was sent twice; send it once, first", field="config")
            case None:
                raise InvalidArgument("a message held neither config nor audio", field="audio")
        audio = request.audio
        if len(audio) > MAX_CHUNK_BYTES:
            raise AudioError(f"a message held over {MAX_CHUNK_BYTES} bytes; send smaller ones")
        left_bytes -= len(audio)
        if left_bytes < 0:
            raise AudioError(f"the stream exceeds {max_bytes:.0f} bytes; send less audio")
        block += audio
        if len(block) >= block_bytes:
            yield bytes(block)
            block.clear()
            block_bytes = stream.block_bytes
    if block:
        yield bytes(block)
