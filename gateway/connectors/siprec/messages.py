"""SIP messages (RFC 3261): read strictly, as they come from the network."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.errors import ProtocolError

MAX_HEAD_BYTES = 32 * 1024
MAX_BODY_BYTES = 64 * 1024
_MAX_HEADERS = 200
_LONG_NAMES = {
    "b": "referred-by", "c": "content-type", "e": "content-encoding", "f": "from",
    "i": "call-id", "k": "supported", "l": "content-length", "m": "contact", "o": "event",
    "r": "refer-to", "s": "subject", "t": "to", "u": "allow-events", "v": "via",
    "x": "session-expires",
}  # fmt: skip
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")
_TAG = re.compile(r";\s*tag\s*=\s*([^\s;,>\"]+)", re.IGNORECASE)
_PIECE = re.compile(r'"[^"]*"|<[^<>]*>|,|[^",<]+|["<]')
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

REASONS = {
    100: "Trying",
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    420: "Bad Extension",
    422: "Session Interval Too Small",
    481: "Call/Transaction Does Not Exist",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    491: "Request Pending",
    500: "Server Internal Error",
    503: "Service Unavailable",
}

Headers = tuple[tuple[str, str], ...]
"""Names in lower case and in their long form, values as they came."""


@dataclass(frozen=True, slots=True)
class Message:
    headers: Headers
    body: bytes

    def find(self, name: str) -> str:
        """The first header of this name; empty if there is none."""
        return next((value for key, value in self.headers if key == name), "")

    def find_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def call_id(self) -> str:
        return self.find("call-id")

    @property
    def from_tag(self) -> str:
        return _find_tag(self.find("from"))

    @property
    def to_tag(self) -> str:
        return _find_tag(self.find("to"))

    @property
    def cseq(self) -> int:
        return int(self.find("cseq").split()[0])

    @property
    def branch(self) -> str:
        """Names the transaction, with the host that the request was sent by."""
        via = split_list(self.find("via"))[0]
        return f"{_find_parameter(via, 'branch')} {via.partition(';')[0]}"


@dataclass(frozen=True, slots=True)
class Request(Message):
    method: str
    uri: str

    def list_options(self, name: str) -> set[str]:
        """The words of a header such as Require, in lower case."""
        lists = (split_list(value) for value in self.find_all(name))
        return {word.lower() for words in lists for word in words if word}

    @property
    def contact(self) -> str:
        """The URI to which requests within the dialog go."""
        contact = split_list(self.find("contact"))[0]
        bracketed = re.search(r"<([^<>\s]+)>", contact)
        return bracketed[1] if bracketed else contact.partition(";")[0].strip()


@dataclass(frozen=True, slots=True)
class Response(Message):
    status: int


def parse_message(data: bytes) -> Request | Response:
    """Read a whole message; raises `ProtocolError`."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator or len(head) > MAX_HEAD_BYTES or len(body) > MAX_BODY_BYTES:
        raise ProtocolError("a SIP message has no end of its headers, or is too long")
    first, *lines = re.sub(r"\r\n[ \t]+", " ", head.decode(errors="replace")).split("\r\n")
    headers = _parse_headers(lines)
    length = _parse_length(headers, len(body))
    if length > len(body):
        raise ProtocolError("a SIP message is shorter than its Content-Length")
    message = _parse_first_line(first, headers, body[:length])
    _check(message)
    return message


def _parse_first_line(line: str, headers: Headers, body: bytes) -> Request | Response:
    words = line.split(" ", 2)
    if len(words) == 3 and words[0] == "SIP/2.0" and re.fullmatch(r"[1-6][0-9]{2}", words[1]):
        return Response(headers, body, int(words[1]))
    if len(words) == 3 and words[2] == "SIP/2.0" and _TOKEN.fullmatch(words[0]) and words[1]:
        if _CONTROL.search(words[1]):
            raise ProtocolError("a SIP request's URI holds control characters")
        return Request(headers, body, words[0].upper(), words[1])
    raise ProtocolError("what came is no SIP message")


def _parse_headers(lines: list[str]) -> Headers:
    if len(lines) > _MAX_HEADERS:
        raise ProtocolError("a SIP message has too many headers")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon or not _TOKEN.fullmatch(name) or _CONTROL.search(value):
            raise ProtocolError("a SIP message has a header that is none")
        headers.append((_LONG_NAMES.get(name, name), value.strip()))
    return tuple(headers)


def _parse_length(headers: Headers, otherwise: int) -> int:
    lengths = {value for name, value in headers if name == "content-length"}
    if not lengths:
        return otherwise
    if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,7}", length := lengths.pop()):
        raise ProtocolError("a SIP message's Content-Length is no number")
    return int(length)


def _check(message: Request | Response) -> None:
    missing = [name for name in ("via", "from", "to", "call-id", "cseq") if not message.find(name)]
    if missing:
        raise ProtocolError(f"a SIP message has no {missing[0]}")
    cseq = re.fullmatch(r"([0-9]{1,10})\s+(\S+)", message.find("cseq"))
    if cseq is None or int(cseq[1]) >= 2**32:
        raise ProtocolError("a SIP message's CSeq is none")
    if isinstance(message, Request) and cseq[2].upper() != message.method:
        raise ProtocolError("a SIP request's CSeq is of another method")


def split_list(value: str) -> list[str]:
    """Split at the commas that stand in no quotes and no angle brackets; one item at least."""
    items = [""]
    for piece in _PIECE.findall(value):
        if piece == ",":
            items.append("")
        else:
            items[-1] += piece
    return [item.strip() for item in items]


def _find_tag(value: str) -> str:
    found = _TAG.search(value.rpartition(">")[2] or value)
    return found[1] if found else ""


def _find_parameter(value: str, name: str) -> str:
    for parameter in value.split(";")[1:]:
        key, _, found = parameter.partition("=")
        if key.strip().lower() == name:
            return found.strip()
    return ""


def make_response(
    request: Request,
    status: int,
    source: tuple[str, int],
    *,
    to_tag: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> bytes:
    """A response to a request that came from `source` (host, port)."""
    top, *vias = [via for value in request.find_all("via") for via in split_list(value)]
    to = request.find("to")
    if to_tag and not request.to_tag:
        to += f";tag={to_tag}"
    lines = [
        ("Via", _note_source(top, source)),
        *(("Via", via) for via in vias),
        *(("Record-Route", route) for route in request.find_all("record-route")),
        ("From", request.find("from")),
        ("To", to),
        ("Call-ID", request.call_id),
        ("CSeq", request.find("cseq")),
        *headers,
    ]
    return format_message(f"SIP/2.0 {status} {REASONS[status]}", lines, body)


def format_message(first: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers)]
    lines += ["Server: Sayso", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def _note_source(via: str, source: tuple[str, int]) -> str:
    """Say in the Via where its request came from (RFC 3581)."""
    sent_by, *parameters = via.split(";")
    kept = [
        parameter
        for parameter in parameters
        if parameter.partition("=")[0].strip().lower() not in ("received", "rport")
    ]
    if len(kept) < len(parameters):
        kept.append(f"rport={source[1]}")
    return ";".join((sent_by, *kept, f"received={source[0]}"))


def find_return_port(request: Request, source_port: int) -> int:
    """The port that responses over UDP go to (RFC 3581)."""
    via = split_list(request.find("via"))[0]
    sent_by, *parameters = via.split(";")
    if any(each.partition("=")[0].strip().lower() == "rport" for each in parameters):
        return source_port
    found = re.search(r":([0-9]{1,5})\s*$", sent_by)
    return int(found[1]) if found and 0 < int(found[1]) < 65536 else 5060


async def read_message(reader: asyncio.StreamReader, within_s: float) -> bytes | None:
    """The next message of a stream whose first byte is there in time; empty bytes for a keep-alive
    (RFC 5626), None if the connection ends. Raises `ProtocolError` and `TimeoutError`."""
    try:
        async with asyncio.timeout(within_s):
            first = await reader.readexactly(2)
        if first == b"\r\n":
            return b""
        async with asyncio.timeout(10.0):
            head = first + await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\n(?:content-length|l)[ \t]*:[ \t]*([0-9]{1,7})[ \t]*\r\n",
                               head)  # fmt: skip
            if length is None:
                raise ProtocolError("a SIP message on a stream has no Content-Length")
            if int(length[1]) > MAX_BODY_BYTES:
                raise ProtocolError("a SIP message is too long")
            return head + await reader.readexactly(int(length[1]))
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        raise ProtocolError("a SIP message has no end of its headers") from None
