"""Calls as Twilio Media Streams sends them, signed by Twilio's own library."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection

from tests.support.call_audio import split

ACCOUNT_KEY = "0123456789abcdef0123456789abcdef"
PUBLIC_URL = "wss://voice.example.com"


def sign(path: str = "/twilio", token: str = ACCOUNT_KEY) -> dict[str, str]:
    signature = RequestValidator(token).compute_signature(PUBLIC_URL + path, {})
    return {"X-Twilio-Signature": str(signature)}


def make_start(call_id: str = "CA1", **parameters: str) -> dict[str, Any]:
    start = {
        "streamSid": "MZ1",
        "accountSid": "AC1",
        "callSid": call_id,
        "tracks": ["inbound"],
        "customParameters": parameters,
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    return {"event": "start", "sequenceNumber": "1", "streamSid": "MZ1", "start": start}


def make_media(audio: bytes, chunk: int, track: str = "inbound") -> dict[str, Any]:
    media = {
        "track": track,
        "chunk": str(chunk),
        "timestamp": str(20 * chunk),
        "payload": base64.b64encode(audio).decode(),
    }
    return {"event": "media", "sequenceNumber": str(chunk + 1), "streamSid": "MZ1", "media": media}


def make_call(start: dict[str, Any], caller: bytes, agent: bytes = b"") -> Iterator[dict[str, Any]]:
    """All messages of a call; the two tracks come by turns."""
    yield {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    yield start
    agents = split(agent)
    for chunk, frame in enumerate(split(caller), start=1):
        yield make_media(frame, chunk)
        if (other := next(agents, b"")) != b"":
            yield make_media(other, chunk, "outbound")
    yield {"event": "stop", "sequenceNumber": "9", "stop": {"accountSid": "AC1", "callSid": "CA1"}}


async def send_call(socket: ClientConnection, messages: Iterator[dict[str, Any]]) -> None:
    for message in messages:
        await socket.send(json.dumps(message))
