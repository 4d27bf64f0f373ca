"""Dialects of Twilio's protocol: the same events, other names.

    vendor      call id                        claim                  format
    Telnyx      start.call_control_id          custom_parameters      PCMU, PCMA; order not kept
    Plivo       start.callId                   (announce the call)    mu-law, L16
    SignalWire  as Twilio                      as Twilio              as Twilio, L16 too
    Exotel      start.call_sid                 custom_parameters      16-bit samples, unless mu-law
    Bandwidth   metadata.callId                streamParams           PCMU

None of them signs the upgrade: the last part of the path is a token of the operator's.
"""

import heapq
from collections.abc import Callable, Mapping
from typing import Any

from gateway import metrics
from gateway.calls import CallStart
from gateway.connectors import twilio
from gateway.connectors.streams import (
    AsTheyCome,
    Event,
    Media,
    Order,
    Parse,
    Stop,
    parse_format,
    parse_payload,
)
from gateway.sockets import read_number, read_object, read_text

_WINDOW = 10  # frames, 200 ms


class InOrder:
    """Sorts frames by their chunk; one that is missing is waited for until ten others are there."""

    def __init__(self) -> None:
        self._next = 1
        self._highest = 0
        self._early: list[tuple[int, bytes]] = []

    def add(self, media: Media) -> list[Media]:
        """Take a frame, give those whose turn it is; late ones and copies are dropped."""
        known = any(chunk == media.chunk for chunk, _ in self._early)
        if media.chunk < self._highest:
            metrics.REORDERED_FRAMES.labels(metrics.CONNECTOR.get()).inc()
        self._highest = max(self._highest, media.chunk)
        if media.chunk >= self._next and not known:
            heapq.heappush(self._early, (media.chunk, media.audio))
        ready = []
        while self._early and (self._early[0][0] == self._next or len(self._early) > _WINDOW):
            chunk, audio = heapq.heappop(self._early)
            if chunk > self._next:
                metrics.LOST_FRAMES.labels(metrics.CONNECTOR.get()).inc(chunk - self._next)
            self._next = chunk + 1
            ready.append(Media(audio, chunk))
        return ready

    def rest(self) -> list[Media]:
        """The frames that still wait, once there are no more."""
        return [Media(audio, chunk) for chunk, audio in sorted(self._early)]


def parse_telnyx(message: Mapping[str, Any]) -> Event:
    if message.get("event") != "start":
        return _parse_rest(message)
    start = read_object(message, "start")
    fmt = read_object(start, "media_format")
    encoding = read_text(fmt, "encoding", "PCMU")
    return CallStart(
        read_text(start, "call_control_id"),
        # L16 of RTP is big-endian, which nobody else sends
        parse_format("L16 of RTP" if encoding == "L16" else encoding, _read_rate(fmt)),
        speaker_id=_read_claim(start),
    )


def parse_plivo(message: Mapping[str, Any]) -> Event:
    if message.get("event") != "start":
        return _parse_rest(message)
    start = read_object(message, "start")
    fmt = read_object(start, "mediaFormat")
    encoding = read_text(fmt, "encoding", "audio/x-mulaw")
    rate = read_number(fmt, "sampleRate", 8000)
    return CallStart(read_text(start, "callId"), parse_format(encoding, rate))


def parse_exotel(message: Mapping[str, Any]) -> Event:
    if message.get("event") != "start":
        return _parse_rest(message)
    start = read_object(message, "start")
    fmt = read_object(start, "media_format")
    encoding = read_text(fmt, "encoding", "base64")  # which says nothing of the samples
    return CallStart(
        read_text(start, "call_sid"),
        parse_format("audio/x-l16" if encoding == "base64" else encoding, _read_rate(fmt)),
        speaker_id=_read_claim(start),
    )


def parse_bandwidth(message: Mapping[str, Any]) -> Event:
    match message.get("eventType"):
        case "start":
            return CallStart(
                read_text(read_object(message, "metadata"), "callId"),
                parse_format("PCMU", 8000),
                speaker_id=read_text(read_object(message, "streamParams"), "speaker_id", ""),
            )
        case "media":
            return _parse_media(message)
        case "stop":
            return Stop()
    return None


DIALECTS: Mapping[str, tuple[Parse, Callable[[], Order]]] = {
    "telnyx": (parse_telnyx, InOrder),
    "plivo": (parse_plivo, AsTheyCome),
    "signalwire": (twilio.parse_event, AsTheyCome),
    "exotel": (parse_exotel, AsTheyCome),
    "bandwidth": (parse_bandwidth, AsTheyCome),
}
"""By the first part of the path."""


def _parse_rest(message: Mapping[str, Any]) -> Event:
    match message.get("event"):
        case "media":
            return _parse_media(read_object(message, "media"))
        case "stop":
            return Stop()
    return None


def _parse_media(media: Mapping[str, Any]) -> Event:
    if media.get("track", "inbound") != "inbound":
        return None
    return Media(parse_payload(media), read_number(media, "chunk", 0))


def _read_rate(fmt: Mapping[str, Any]) -> int:
    return read_number(fmt, "sample_rate", 8000)


def _read_claim(start: Mapping[str, Any]) -> str:
    return read_text(read_object(start, "custom_parameters"), "speaker_id", "")
