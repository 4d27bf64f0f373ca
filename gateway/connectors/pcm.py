"""Samples over a WebSocket: a text message that says what they are, then binary messages of them.

    subprotocol            who                           first message          answers
    audio.drachtio.org     FreeSWITCH mod_audio_fork     metadata, JSON         {type: json, data}
    audio.jambonz.org      jambonz, the verb `listen`    call attributes, JSON  {type: json, data}
    media                  Asterisk chan_websocket       MEDIA_START            none
    sayso.v1               browsers, anything of yours   {call_id, ...}         each decision
    (none)                 FreeSWITCH mod_audio_stream   metadata, JSON         the decision
    (none)                 Vonage                        websocket:connected    none

Whoever connects shows a key of the server, whose tenant the call is of: `Authorization: Bearer` or
`Basic` (as the password), `x-api-key`, or, from a browser, the subprotocol `sayso.key.<key>`.
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sayso import Decision, RawAudio

from gateway.answers import Changes, describe
from gateway.calls import Answer, Calls, CallStart
from gateway.documents import parse_json
from gateway.errors import ProtocolError
from gateway.sockets import Socket, parse_object, read_number, read_object, read_text

_KEY_PROTOCOL = "sayso.key."
_ASTERISK_FORMATS = {
    "ulaw": ("MULAW", 8000),
    "alaw": ("ALAW", 8000),
    "slin": ("LINEAR16", 8000),
    "slin16": ("LINEAR16", 16000),
}

Parse = Callable[[str], CallStart]
MakeAnswer = Callable[[Socket, CallStart], Answer]


@dataclass(frozen=True, slots=True)
class Platform:
    """How a call begins, how it is told of decisions, and whether the gateway ends the stream."""

    parse: Parse
    make_answer: MakeAnswer
    hangs_up: bool = False


def find_key(headers: Mapping[str, str], protocols: Sequence[str]) -> str:
    """The key that an upgrade shows; empty if there is none."""
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return shown.strip()
    if scheme.lower() == "basic":
        return _read_password(shown)
    in_protocols = (
        protocol.removeprefix(_KEY_PROTOCOL)
        for protocol in protocols
        if protocol.startswith(_KEY_PROTOCOL)
    )
    return headers.get("x-api-key") or next(in_protocols, "")


def choose_protocol(protocols: Sequence[str]) -> str | None:
    """The first subprotocol offered that is known."""
    return next((protocol for protocol in protocols if protocol in PLATFORMS), None)


async def verify_pcm(
    socket: Socket,
    calls: Calls,
    platform: Platform,
    *,
    credential: str | None,
    resume_as: str | None = None,
) -> None:
    """Verify the one call of a connection. Raises `ProtocolError` and `CallRefused`."""
    first = await socket.receive()
    if first is None:
        return
    if isinstance(first, bytes):
        raise ProtocolError("the first message must be text that says what the samples are")
    start = platform.parse(first)
    answer = platform.make_answer(socket, start)
    async with calls.open(start, answer, credential=credential, resume_as=resume_as) as call:
        async for message in socket.messages():
            if isinstance(message, bytes):
                await call.hear(message)
            elif _is_end(message):
                break
            if platform.hangs_up and call.done:
                break
        if socket.broken:
            call.lose()


def parse_freeswitch(message: str) -> CallStart:
    """Metadata of `uuid_audio_fork` or `uuid_audio_stream`, as docs/integrate/gateway.md has it."""
    fields = parse_object(message)
    if fields.get("event") == "websocket:connected":
        return parse_vonage(message)
    channels = read_number(fields, "channels", 1)
    return CallStart(
        read_text(fields, "call_id"),
        _make_raw("LINEAR16", read_number(fields, "sample_rate", 8000), channels),
        channel=0 if channels == 2 else None,  # stereo is caller, then callee
        speaker_id=read_text(fields, "speaker_id", ""),
    )


def parse_jambonz(message: str) -> CallStart:
    fields = parse_object(message)
    mix = fields.get("mixType", "mono")
    if mix == "mixed":
        raise ProtocolError("mixType mixed is two voices in one channel: use mono or stereo")
    stereo = mix == "stereo"
    return CallStart(
        read_text(fields, "callSid"),
        _make_raw("LINEAR16", read_number(fields, "sampleRate", 8000), 2 if stereo else 1),
        channel=0 if stereo else None,
        speaker_id=read_text(fields, "speaker_id", ""),
    )


def parse_vonage(message: str) -> CallStart:
    """`headers` of the NCCO endpoint are fields of the first message."""
    fields = parse_object(message)
    kind, *parameters = read_text(fields, "content-type").replace(" ", "").split(";")
    rates = [value.removeprefix("rate=") for value in parameters if value.startswith("rate=")]
    if kind != "audio/l16" or len(rates) != 1:
        raise ProtocolError("the content-type is not audio/l16 with a rate")
    return CallStart(
        read_text(fields, "call_id"),
        _make_raw("LINEAR16", read_number({"rate": rates[0]}, "rate"), 1),
        speaker_id=read_text(fields, "speaker_id", ""),
    )


def parse_asterisk(message: str) -> CallStart:
    """MEDIA_START, as JSON or in plain text."""
    if message.startswith("MEDIA_START "):
        pairs = (word.partition(":") for word in message.split()[1:])
        fields: dict[str, Any] = {name: value for name, _, value in pairs}
    else:
        fields = parse_object(message)
        if fields.get("event") != "MEDIA_START":
            raise ProtocolError("the first message is no MEDIA_START")
    if (fmt := read_text(fields, "format")) not in _ASTERISK_FORMATS:
        raise ProtocolError(f"the format is none of {', '.join(_ASTERISK_FORMATS)}")
    return CallStart(
        read_text(fields, "channel_id", "") or read_text(fields, "connection_id"),
        RawAudio(*_ASTERISK_FORMATS[fmt]),
        speaker_id=read_text(read_object(fields, "channel_variables"), "speaker_id", ""),
    )


def parse_own(message: str) -> CallStart:
    """The first message of `sayso.v1`."""
    fields = parse_object(message)
    channels = read_number(fields, "channels", 1)
    return CallStart(
        read_text(fields, "call_id"),
        _make_raw(
            read_text(fields, "encoding", "LINEAR16"), read_number(fields, "sample_rate"), channels
        ),
        channel=read_number(fields, "channel") if channels == 2 else None,
        speaker_id=read_text(fields, "speaker_id", ""),
    )


def send_json_event(socket: Socket, start: CallStart) -> Answer:
    """Answers that mod_audio_fork turns into the event `mod_audio_fork::json`."""
    return Changes(lambda made: socket.send({"type": "json", "data": made}), start.call_id)


def send_changes(socket: Socket, start: CallStart) -> Answer:
    return Changes(lambda made: socket.send({"type": "decision", **made}), start.call_id)


def send_all(socket: Socket, start: CallStart) -> Answer:
    async def send(decision: Decision) -> None:
        await socket.send({"type": "decision", **describe(decision, start.call_id)})

    return send


def send_nothing(socket: Socket, start: CallStart) -> Answer:
    async def drop(decision: Decision) -> None:
        pass

    return drop


PLATFORMS: Mapping[str | None, Platform] = {
    "audio.drachtio.org": Platform(parse_freeswitch, send_json_event),
    "audio.jambonz.org": Platform(parse_jambonz, send_json_event),
    "media": Platform(parse_asterisk, send_nothing),
    "sayso.v1": Platform(parse_own, send_all, hangs_up=True),
    None: Platform(parse_freeswitch, send_changes),
}
"""By subprotocol."""

VONAGE = Platform(parse_vonage, send_nothing)


def _make_raw(encoding: str, sample_rate: int, channels: int) -> RawAudio:
    if encoding not in ("LINEAR16", "MULAW", "ALAW"):
        raise ProtocolError("encoding is none of LINEAR16, MULAW, ALAW")
    if not 8000 <= sample_rate <= 48000:
        raise ProtocolError("the sample rate is not 8000 to 48000 Hz")
    if channels not in (1, 2):
        raise ProtocolError("channels is not 1 or 2")
    return RawAudio(encoding, sample_rate, channels)


def _is_end(message: str) -> bool:
    """Whether `sayso.v1` says that there is no more audio. Other text is of other matters: keys
    pressed, notes of the dialplan."""
    try:
        return bool(parse_json(message) == {"event": "end"})
    except ValueError:
        return False


def _read_password(basic: str) -> str:
    try:
        user, _, password = base64.b64decode(basic, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return ""
    return password or user
