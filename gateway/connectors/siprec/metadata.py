"""Metadata of a recording: who takes part, and who speaks on which stream.

RFC 7865, and the shapes that came before it: Oracle (Acme Packet), which Avaya uses too, writes
`id`, `session` and <send> within the participant; Ribbon (Sonus) names the caller in <callData>.
Elements are found by their local names, as every vendor has a namespace of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from gateway.errors import ProtocolError

_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Participant:
    """`calling` is None if the platform does not say who called; `sends` are ids of streams."""

    aor: str
    calling: bool | None
    sends: frozenset[str]


@dataclass(frozen=True, slots=True)
class Metadata:
    """`streams` has the label of each stream by its id; `call_ids` what the platform calls the
    call, by the name that `siprec_call_id` knows it by."""

    partial: bool = False
    participants: Mapping[str, Participant] = field(default_factory=dict)
    streams: Mapping[str, str] = field(default_factory=dict)
    calling_user: str = ""
    call_ids: Mapping[str, str] = field(default_factory=dict)

    def update(self, later: "Metadata") -> "Metadata":
        """What is known after `later` came: all of it, or what changed."""
        if not later.partial:
            return later
        return Metadata(
            participants={**self.participants, **later.participants},
            streams={**self.streams, **later.streams},
            calling_user=later.calling_user or self.calling_user,
            call_ids={**self.call_ids, **later.call_ids},
        )

    def find_caller_label(self) -> str:
        """The label of the caller's stream; empty if the metadata do not say who called."""
        for participant in self.participants.values():
            named = self.calling_user and _read_user(participant.aor) == self.calling_user
            if participant.calling or (participant.calling is None and named):
                return next(
                    (self.streams[each] for each in participant.sends if self.streams.get(each)), ""
                )
        return ""

    def is_mixed(self, label: str) -> bool:
        """Whether more than one participant speaks on the stream of this label."""
        streams = {stream for stream, name in self.streams.items() if name == label}
        return sum(bool(streams & each.sends) for each in self.participants.values()) > 1


def parse_metadata(document: bytes) -> Metadata:
    """Read metadata; raises `ProtocolError`."""
    recording = parse_xml(document)
    if recording.tag != "recording":
        raise ProtocolError("the metadata are not a <recording>")
    sends: dict[str, set[str]] = {}
    for link in recording.iter("participantstreamassoc"):
        sends.setdefault(_read_id(link, "participant"), set()).update(_read_texts(link, "send"))
    return Metadata(
        partial=_read_text(recording, "datamode", "dataMode").lower() == "partial",
        participants={
            (key := _read_id(each, "participant")): _parse_participant(each, sends.get(key, set()))
            for each in recording.iter("participant")
        },
        streams={
            _read_id(each, "stream"): _read_text(each, "label") for each in recording.iter("stream")
        },
        calling_user=_read_user(_read_text(recording, "fromhdr")),
        call_ids=dict(_list_call_ids(recording)),
    )


def _parse_participant(element: Element, sends: set[str]) -> Participant:
    name = element.find("nameID")
    calling = _read_text(element, "callingParty").lower()
    return Participant(
        aor=name.get("aor", "") if name is not None else element.get("aor", ""),
        calling=calling == "true" if calling else None,
        sends=frozenset(sends.union(_read_texts(element, "send"))),
    )


def _list_call_ids(recording: Element) -> Iterator[tuple[str, str]]:
    session = recording.find("session")
    if session is not None:
        yield "session", _read_id(session, "session")
    yield "sip_session", _read_text(recording, "sipSessionID").partition(";")[0]
    yield "ucid", _read_text(recording, "ucid").partition(";")[0]
    headers = (each for each in recording.iter("header") if each.get("label") == "Call-ID")
    values = (_read_text(each, "value") for each in headers)
    yield "original", _read_text(recording, "callid") or next(values, "")


def _read_id(element: Element, name: str) -> str:
    return element.get(f"{name}_id") or element.get("id") or element.get(name) or ""


def _read_texts(element: Element, name: str) -> Iterator[str]:
    return (text for each in element.iter(name) if (text := (each.text or "").strip()))


def _read_text(element: Element, *names: str) -> str:
    return next((text for name in names for text in _read_texts(element, name)), "")


def _read_user(uri: str) -> str:
    """The user of a SIP or tel URI, however it is wrapped: `"A" <sip:123@example.com>;tag=x`."""
    inner = uri.partition("<")[2].partition(">")[0] or uri
    return inner.removeprefix("sips:").removeprefix("sip:").removeprefix("tel:").partition("@")[0]


def parse_xml(document: bytes) -> Element:
    """A document as a tree of local names. Document types are refused, and with them entities that
    grow or point elsewhere; raises `ProtocolError`."""
    builder, parser, depth = TreeBuilder(), expat.ParserCreate(), 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise ProtocolError("the metadata are nested too deeply")
        local = {key.rpartition(":")[2]: value for key, value in attributes.items()}
        builder.start(name.rpartition(":")[2], local)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name.rpartition(":")[2])

    def refuse(*_: Any) -> None:
        raise ProtocolError("the metadata have a document type, which is not taken")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(document.strip(), True)
        return builder.close()
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise ProtocolError(f"the metadata are not XML: {error}") from None
