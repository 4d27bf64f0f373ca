"""Reading requests: a recording in one message, or a stream of config and then audio."""

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from service.access import Role, current
from service.audio.decoding import AudioFormat, Encoding, Samples, StreamDecoder
from service.errors import AudioError, InvalidArgument
from service.inference.embedder import NOTHING, Stream, Utterance

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
    """`rate` in hertz is the model's; `max_s` and `max_bytes` bound a recording, `max_call_s`
    a call whose audio is verified as it comes. `charge` takes the seconds that were decoded, and
    raises `Overloaded`; 0 of them ask whether it would take any."""

    rate: int
    max_s: float
    max_bytes: int
    max_call_s: float
    charge: Callable[[float], None]

    async def heard(self, stream: Stream, audio: bytes, fmt: AudioFormat) -> Utterance:
        """A whole recording in a stream that has had nothing yet."""
        if len(audio) > self.max_bytes:
            raise AudioError(f"the audio exceeds {self.max_bytes} bytes; send less of it")
        self.charge(0.0)
        decoder = self.decoder(fmt)
        await stream.take(partial(decoder.whole, audio))
        stream.suspect(decoder.suspicions)
        self.charge(stream.quality.total_s)
        return await stream.finish()

    def pushed(self, stream: Stream, decoder: StreamDecoder, chunk: bytes) -> Samples:
        """The samples that a chunk completes, for `stream`."""
        samples = self._charged(decoder.push(chunk))
        stream.suspect(decoder.suspicions)
        return samples

    async def finished(self, stream: Stream, decoder: StreamDecoder) -> Samples:
        """The last samples; a compressed file is decoded now, off the event loop, and pushed to
        `stream` block by block, for an hour of silence in 100 kB is 230 MB of samples."""
        blocks, last = decoder.blocks(), NOTHING
        while (block := await stream.decode(partial(next, blocks, None))) is not None:
            await stream.push(last)
            last = self._charged(block)
        stream.suspect(decoder.suspicions)
        return last

    def decoder(self, fmt: AudioFormat) -> StreamDecoder:
        return StreamDecoder(fmt, rate=self.rate, max_s=self.max_s)

    def call_decoder(self, fmt: AudioFormat) -> StreamDecoder:
        """For a call; a file is a recording, however it is sent."""
        is_file = fmt.encoding is Encoding.AUTO
        return StreamDecoder(fmt, rate=self.rate, max_s=self.max_s if is_file else self.max_call_s)

    def _charged(self, samples: Samples) -> Samples:
        self.charge(samples.size / self.rate)
        return samples

    def call_bytes(self, fmt: AudioFormat) -> float:
        """What a call may send: a file is held whole, raw samples are only counted in seconds."""
        return self.max_bytes if fmt.encoding is Encoding.AUTO else math.inf


async def opening(requests: AsyncIterator[Any]) -> Any:
    """The config that a stream of `oneof payload {config, audio}` begins with."""
    async for request in requests:
        if request.WhichOneof("payload") != "config":
            raise InvalidArgument("must be the first message of the stream", field="config")
        return request.config
    raise InvalidArgument("the stream ended without one; send it first", field="config")


async def chunks(requests: AsyncIterator[Any], *, max_bytes: float) -> AsyncIterator[bytes]:
    """The audio of the messages after the config, at most `max_bytes` in all."""
    room = max_bytes
    async for request in requests:
        match request.WhichOneof("payload"):
            case "config":
                raise InvalidArgument("was sent twice; send it once, first", field="config")
            case None:
                raise InvalidArgument("a message held neither config nor audio", field="audio")
        if len(request.audio) > MAX_CHUNK_BYTES:
            raise AudioError(f"a message held over {MAX_CHUNK_BYTES} bytes; send smaller ones")
        room -= len(request.audio)
        if room < 0:
            raise AudioError(f"the stream exceeds {max_bytes:.0f} bytes; send less audio")
        yield request.audio
