"""Offers and answers in SDP (RFC 8866, RFC 3264), as far as a recording needs them."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import ProtocolError

CODECS = {"0": ("MULAW", "PCMU"), "8": ("ALAW", "PCMA")}
"""Static payload types: the encoding of the API, and the name in SDP."""

_MAX_STREAMS = 16
_MEDIA = re.compile(r"(\S{1,32}) ([0-9]{1,5})(?:/[0-9]+)? (\S{1,32}) (\S+(?: \S+)*)")
_PROTOCOLS = ("RTP/AVP", "RTP/AVPF")
_DIRECTIONS = ("sendonly", "sendrecv", "recvonly", "inactive")


@dataclass(frozen=True, slots=True)
class Media:
    """A stream that is offered; `address` is where its sender is, `label` its name in the
    metadata."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    address: str
    label: str
    direction: str

    @property
    def usable(self) -> bool:
        """Whether it is audio of a codec that is taken, and not encrypted."""
        return (
            self.kind == "audio"
            and self.port > 0
            and self.protocol in _PROTOCOLS
            and any(each in CODECS for each in self.formats)
        )

    @property
    def sends(self) -> bool:
        """Whether audio comes; it does not while the call is on hold."""
        return self.direction.startswith("send") and self.address not in ("0.0.0.0", "::")  # noqa: S104 - what a hold looks like in old SDP

    def choose_format(self, current: str = "") -> str:
        """The payload type to answer: the current one if it is still offered, else the first that
        is taken."""
        taken = [each for each in self.formats if each in CODECS]
        return current if current in taken else taken[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered to one stream of an offer; port 0 refuses it."""

    media: Media
    port: int
    format: str


def parse_offer(body: bytes) -> tuple[Media, ...]:
    """The streams of an offer; raises `ProtocolError`."""
    session: dict[str, str] = {}
    streams: list[dict[str, str]] = []
    for line in body.decode(errors="replace").splitlines():
        kind, equals, value = line.partition("=")
        if not equals or len(kind) != 1:
            continue
        if kind == "m":
            streams.append({"m": value.strip()})
        elif kind == "c":
            (streams[-1] if streams else session)["c"] = value
        elif kind == "a":
            _note_attribute(streams[-1] if streams else session, value.strip())
    if not 1 <= len(streams) <= _MAX_STREAMS:
        raise ProtocolError("an offer has no streams, or too many")
    return tuple(_parse_media(session | each) for each in streams)


def _note_attribute(section: dict[str, str], attribute: str) -> None:
    name, _, value = attribute.partition(":")
    if name in _DIRECTIONS:
        section["direction"] = name
    elif name == "label":
        section["label"] = value.strip()


def _parse_media(section: dict[str, str]) -> Media:
    found = _MEDIA.fullmatch(section["m"])
    if found is None or int(found[2]) > 65535:
        raise ProtocolError("an offer has an m= line that is none")
    label = section.get("label", "")
    if len(label) > 64 or not label.isascii() or not label.isprintable():
        raise ProtocolError("the label of a stream is over 64 characters, or not printable")
    return Media(
        kind=found[1],
        port=int(found[2]),
        protocol=found[3],
        formats=tuple(found[4].split()[:32]),
        address=_parse_address(section.get("c", "")),
        label=label,
        direction=section.get("direction", "sendrecv"),
    )


def _parse_address(connection: str) -> str:
    """The address of a c= line; empty for a name, as none is looked up."""
    words = connection.split()
    try:
        return str(ipaddress.ip_address(words[2].partition("/")[0])) if len(words) == 3 else ""
    except ValueError:
        return ""


def make_answer(answers: Sequence[Answer], host: str, session: int, version: int) -> bytes:
    """An answer that takes the streams at `host`, in the order of the offer."""
    family = "IP6" if ":" in host else "IP4"
    lines = [
        "v=0",
        f"o=sayso {session} {version} IN {family} {host}",
        "s=-",
        f"c=IN {family} {host}",
        "t=0 0",
    ]
    for answer in answers:
        media = answer.media
        if not answer.port:
            lines.append(f"m={media.kind} 0 {media.protocol} {media.formats[0]}")
            continue
        lines += [
            f"m=audio {answer.port} {media.protocol} {answer.format}",
            f"a=rtpmap:{answer.format} {CODECS[answer.format][1]}/8000",
            *([f"a=label:{media.label}"] if media.label else []),
            "a=recvonly" if media.direction.startswith("send") else "a=inactive",
        ]
    return "\r\n".join((*lines, "")).encode()
