"""Twilio Media Streams.

`<Start><Stream>` is one-way: whatever is sent back is an error there (31924), so nothing is.
`<Connect><Stream>` is two-way: the call waits until the gateway closes the stream, which it does at
the decision. The `url` of the first is wss://.../twilio, of the second wss://.../twilio/connect.

The claimed speaker is the `<Parameter>` of the name `speaker_id`.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from gateway.calls import CallStart
from gateway.connectors.streams import Event, Media, Stop, parse_format, parse_payload
from gateway.sockets import read_number, read_object, read_text

SIGNATURE_HEADER = "x-twilio-signature"


def is_signed(signature: str, url: str, tokens: Iterable[str]) -> bool:
    """Whether a signature is of this URL by one of the auth tokens. Twilio signs the URL of the
    TwiML, with or without a port."""
    shown = signature.encode()
    expected = [_sign(form, token) for token in tokens for form in _spell(url)]
    return any(hmac.compare_digest(shown, each) for each in expected)


def parse_event(message: Mapping[str, Any]) -> Event:
    """Read one message; raises `ProtocolError` or `CallRefused`."""
    match message.get("event"):
        case "start":
            return _parse_start(read_object(message, "start"))
        case "media":
            media = read_object(message, "media")
            if media.get("track", "inbound") != "inbound":  # the agent, or a synthetic voice
                return None
            return Media(parse_payload(media), read_number(media, "chunk", 0))
        case "stop":
            return Stop()
    return None


def _parse_start(start: Mapping[str, Any]) -> CallStart:
    fmt = read_object(start, "mediaFormat")
    return CallStart(
        read_text(start, "callSid"),
        parse_format(
            read_text(fmt, "encoding", "audio/x-mulaw"), read_number(fmt, "sampleRate", 8000)
        ),
        speaker_id=read_text(read_object(start, "customParameters"), "speaker_id", ""),
    )


def _sign(url: str, token: str) -> bytes:
    return base64.b64encode(hmac.new(token.encode(), url.encode(), hashlib.sha1).digest())


def _spell(url: str) -> tuple[str, str]:
    """The URL with a port and without one."""
    parts = urlsplit(url)
    host = parts.netloc.removesuffix(f":{parts.port}") if parts.port else parts.netloc
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    return parts._replace(netloc=host).geturl(), parts._replace(netloc=f"{host}:{port}").geturl()
