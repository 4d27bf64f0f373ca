"""Webex Contact Center media forking: both sides of a call in one stream.

message (CALLER) ─> the call is opened, its audio heard
message (AGENT)  ─> dropped
half-close       ─> one response, and the end
"""

from sayso import RawAudio

from gateway.calls import Calls, CallStart, LiveCall
from gateway.connectors.media_forking.rpcs import (
    MAX_AUDIO_BYTES,
    Context,
    Stream,
    Unauthenticated,
    read_metadata,
)
from gateway.connectors.media_forking.webex_pb2 import (
    ALAW_FORMAT,
    CALLER,
    INVALID_AUDIO_FORMAT,
    LINEAR16_FORMAT,
    MULAW_FORMAT,
    AudioStream,
    ConversationAudioForkingRequest,
    ConversationAudioForkingResponse,
)
from gateway.connectors.media_forking.webex_tokens import WebexTokens
from gateway.connectors.streams import ignore
from gateway.errors import ProtocolError

Request = ConversationAudioForkingRequest
Response = ConversationAudioForkingResponse

_ENCODINGS: dict[int, str] = {
    LINEAR16_FORMAT: "LINEAR16",
    MULAW_FORMAT: "MULAW",
    ALAW_FORMAT: "ALAW",
}
_RATES = (8000, 16000)


class InvalidAudio(ProtocolError):
    """The audio is none that is taken."""


class Webex:
    """Verifies calls of Webex Contact Center."""

    def __init__(self, calls: Calls, tokens: WebexTokens) -> None:
        self._calls = calls
        self._tokens = tokens

    async def verify(self, stream: Stream[Request], context: Context) -> None:
        """Verify the one call of a stream; raises `Unauthenticated`, `ProtocolError` and
        `CallRefused`."""
        shown = read_metadata(context, "authorization")
        if len(shown) != 1:
            raise Unauthenticated("no token is shown, or several")
        await self._tokens.check(shown[0])
        response = Response(status_message="SUCCESS")
        try:
            await self._verify(stream)
        except InvalidAudio as error:
            response = Response(status_message=str(error), error_code=INVALID_AUDIO_FORMAT)
        if not stream.broken:
            await context.write(response)

    async def _verify(self, stream: Stream[Request]) -> None:
        async for first in stream.messages():
            if first.audio.role == CALLER:
                break
        else:
            return
        start = CallStart(first.conversation_id, read_format(first.audio))
        resume_as = f"webex {first.customer_org_id}"
        async with self._calls.open(start, ignore, announced=True, resume_as=resume_as) as call:
            await _hear(call, start, first)
            async for message in stream.messages():
                await _hear(call, start, message)
            if stream.broken:
                call.lose()


async def _hear(call: LiveCall, start: CallStart, message: Request) -> None:
    if message.conversation_id != start.call_id:
        raise ProtocolError("a second conversation in one stream")
    if message.audio.role != CALLER:
        return
    if read_format(message.audio) != start.raw:
        raise InvalidAudio("the format changed within the call")
    await call.hear(message.audio.audio_data)


def read_format(audio: AudioStream) -> RawAudio:
    """The format of a message; raises `InvalidAudio` for one that is not taken."""
    encoding = _ENCODINGS.get(audio.encoding)
    if encoding is None or audio.sample_rate_hertz not in _RATES:
        raise InvalidAudio("send LINEAR16, mu-law or A-law at 8000 or 16000 Hz")
    if len(audio.audio_data) > MAX_AUDIO_BYTES:
        raise InvalidAudio(f"a message has over {MAX_AUDIO_BYTES} bytes of audio")
    return RawAudio(encoding, audio.sample_rate_hertz)
