"""Five9 VoiceStream: a stream for each side of a call.

streaming_config (CUSTOMER) ─> the call is opened ─> START_STREAMING ─> audio ─> CALL_ENDED
streaming_config (others)   ─> DISCONNECT
HOLD, RESUME                ─> what is heard between them is dropped
"""

import hmac
from collections.abc import Sequence

from sayso import RawAudio

from gateway.calls import Calls, CallStart, LiveCall
from gateway.connectors.media_forking.five9_pb2 import (
    StreamingConfig,
    StreamingStatus,
    StreamingVoiceRequest,
    StreamingVoiceResponse,
    VoiceConfig,
)
from gateway.connectors.media_forking.rpcs import (
    MAX_AUDIO_BYTES,
    Context,
    Stream,
    Unauthenticated,
    read_metadata,
)
from gateway.connectors.streams import ignore
from gateway.errors import ProtocolError

_ENCODINGS: dict[int, str] = {VoiceConfig.LINEAR16: "LINEAR16", VoiceConfig.MULAW: "MULAW"}
_ENDS = (StreamingStatus.CLT_CALL_ENDED, StreamingStatus.CLT_DISCONNECT)
_FIRST_ERROR, _FIRST_OF_SERVER = 100, 1000
_TOKEN_HEADER = "x-five9-trust-token"  # noqa: S105


class Five9:
    """Verifies calls of Five9, from whoever shows one of the `tokens`."""

    def __init__(self, calls: Calls, tokens: Sequence[str]) -> None:
        self._calls = calls
        self._tokens = [token.encode() for token in tokens]

    async def verify(self, stream: Stream[StreamingVoiceRequest], context: Context) -> None:
        """Verify the customer's side of a call; raises `Unauthenticated`, `ProtocolError` and
        `CallRefused`."""
        shown = read_metadata(context, _TOKEN_HEADER)
        if not all(self._is_valid(token) for token in shown):
            raise Unauthenticated("the trust token is none of the file's")
        first = await stream.receive()
        if first is None:
            return
        config = first.streaming_config
        self._check_token(shown, config.trust_token)
        if first.WhichOneof("streaming_request") != "streaming_config":
            raise ProtocolError("the first message is no streaming_config")
        if config.call_leg != StreamingConfig.CUSTOMER:
            await _answer(context, StreamingStatus.SRV_REQ_DISCONNECT)
            return
        start = CallStart(config.vcc_call_id, read_format(config.voice_config))
        resume_as = f"five9 {config.domain_id}"
        async with self._calls.open(start, ignore, announced=True, resume_as=resume_as) as call:
            if not stream.broken:
                await _answer(context, StreamingStatus.SRV_REQ_START_STREAMING)
            await _follow(stream, call)
            if stream.broken:
                call.lose()

    def _check_token(self, shown: list[str], token: str) -> None:
        """A token may come in the metadata, in the configuration, or in both."""
        if not (shown or token):
            raise Unauthenticated("no trust token is shown")
        if token and not self._is_valid(token):
            raise Unauthenticated("the trust token is none of the file's")

    def _is_valid(self, token: str) -> bool:
        found = False
        for known in self._tokens:
            found |= hmac.compare_digest(token.encode(), known)
        return found


async def _follow(stream: Stream[StreamingVoiceRequest], call: LiveCall) -> None:
    held = False
    async for message in stream.messages():
        kind = message.WhichOneof("streaming_request")
        if kind == "streaming_config":
            raise ProtocolError("a second streaming_config")
        if kind == "streaming_status":
            code = message.streaming_status.code
            if code in _ENDS or _FIRST_ERROR <= code < _FIRST_OF_SERVER:
                return
            if code in (StreamingStatus.CLT_CALL_HOLD, StreamingStatus.CLT_CALL_RESUME):
                held = code == StreamingStatus.CLT_CALL_HOLD
        elif kind == "audio_content":
            if len(message.audio_content) > MAX_AUDIO_BYTES:
                raise ProtocolError(f"a message has over {MAX_AUDIO_BYTES} bytes of audio")
            if not held:
                await call.hear(message.audio_content)


def read_format(voice: VoiceConfig) -> RawAudio:
    """The format of a stream; raises `ProtocolError` for one that is not taken."""
    encoding = _ENCODINGS.get(voice.encoding)
    if encoding is None or voice.sample_rate_hertz not in (8000, 16000):
        raise ProtocolError("send LINEAR16 or mu-law at 8000 or 16000 Hz")
    return RawAudio(encoding, voice.sample_rate_hertz)


async def _answer(context: Context, code: "StreamingStatus.StatusCode.ValueType") -> None:
    await context.write(StreamingVoiceResponse(status=StreamingStatus(code=code)))
