"""One recording session: its streams, the call that is heard of them, and how long it lives."""

import asyncio
import logging
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32

from sayso import RawAudio, SaysoError

from gateway.calls import Calls, CallStart, LiveCall
from gateway.connectors.siprec.messages import Request, format_message
from gateway.connectors.siprec.metadata import Metadata, parse_metadata
from gateway.connectors.siprec.rtp import StreamReceiver, open_port
from gateway.connectors.siprec.sdp import CODECS, Answer, Media, make_answer, parse_offer
from gateway.connectors.siprec.transactions import Header, Peer, Transaction
from gateway.connectors.streams import ignore
from gateway.errors import CallRefused, GatewayError, ProtocolError

log = logging.getLogger(__name__)

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO"
MIN_EXPIRES_S = 90
_MAX_EXPIRES_S = 86_400
_MAX_STREAMS = 4
_MAX_PARTS = 20
_QUEUED_PACKETS = 500  # 10 s of audio


@dataclass(frozen=True, slots=True)
class RecordingLimits:
    """Where audio is taken (`host`, `ports`), how the call's id and the caller's stream are found,
    and how long a platform may send nothing."""

    host: str
    ports: range
    call_id: str = "session"
    label: str = ""
    max_pause_s: float = 120.0
    max_hold_s: float = 3600.0


class Rejected(GatewayError):
    """A request is answered with this status."""

    def __init__(self, status: int, why: str, *headers: Header) -> None:
        super().__init__(why)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Body:
    """What a request brings: either may be missing."""

    offer: tuple[Media, ...] | None
    metadata: Metadata | None


def parse_body(request: Request) -> Body:
    """Read the parts of a request; raises `ProtocolError`."""
    offer = metadata = None
    for kind, content in split_parts(request.find("content-type"), request.body):
        match kind:
            case "application/sdp":
                offer = parse_offer(content)
            case "application/rs-metadata" | "application/rs-metadata+xml":
                metadata = parse_metadata(content)
    return Body(offer, metadata)


def split_parts(kind: str, body: bytes) -> Iterator[tuple[str, bytes]]:
    """Content type and content of each part of a body. Parts within parts are not looked into."""
    if not body.strip():
        return
    head = Message()
    head["Content-Type"] = kind or "application/octet-stream"
    boundary = head.get_boundary()
    if not boundary:
        yield head.get_content_type(), body
        return
    delimiter = re.escape(b"--" + boundary.encode())
    sections = re.split(rb"(?:^|\r?\n)" + delimiter + rb"(?:--)?[ \t]*(?=\r?\n|$)", body)
    if len(sections) > _MAX_PARTS:
        raise ProtocolError("a body has too many parts")
    for section in sections[1:]:
        # Without its parts, which could be nested deeper than Python's stack.
        part = BytesParser(policy=compat32).parsebytes(section.lstrip(b"\r\n"), headersonly=True)
        content = part.get_payload(decode=True)
        if isinstance(content, bytes) and content.strip():
            yield part.get_content_type(), content


def find_call_id(request: Request, metadata: Metadata, name: str) -> str:
    """The id by which the call was announced; raises `Rejected` if the platform does not say it."""
    ids = {
        "recording": request.call_id,
        "guid": request.find("cisco-guid"),
        "ucid": request.find("user-to-user").partition(";")[0],
        "sip_session": request.find("session-id").partition(";")[0],
        **{key: value for key, value in metadata.call_ids.items() if value},
    }
    if found := ids.get(name, "") or request.find(name.lower()):
        return found
    has = ", ".join(f"{key} {value!r:.140}" for key, value in ids.items() if value)
    raise Rejected(403, f"the INVITE has no id {name!r} of the call; it has {has}")


def choose_caller(offer: tuple[Media, ...], metadata: Metadata, label: str = "") -> Media:
    """The caller's stream: of the label that is configured, else as the metadata say, else the
    first. Raises `Rejected` if it cannot be verified."""
    wanted = label or metadata.find_caller_label()
    found = next((each for each in offer if not wanted or each.label == wanted), None)
    if found is None:
        raise Rejected(488, f"no stream with the caller's label {wanted!r} is offered")
    if not found.usable:
        raise Rejected(488, "the caller's stream is not plain RTP of PCMU or PCMA")
    if found.label and metadata.is_mixed(found.label):
        raise Rejected(
            488, "the caller's stream is a mix of speakers; have the platform send one for each"
        )
    return found


@dataclass(slots=True)
class _Stream:
    """`receiver` is None for one that is refused."""

    media: Media
    format: str = ""
    receiver: StreamReceiver | None = None


@dataclass(slots=True)
class Dialog:
    """What requests within a session need."""

    request: Request
    peer: Peer
    tag: str
    local_cseq: int = 0
    remote_cseq: int = 0
    routes: list[str] = field(default_factory=list)

    def make_bye(self, branch: str) -> bytes:
        self.local_cseq += 1
        request, peer = self.request, self.peer
        host = f"[{peer.local_host}]" if ":" in peer.local_host else peer.local_host
        via = f"SIP/2.0/{peer.scheme.upper()} {host}:{peer.local_port};branch={branch};rport"
        headers = [
            ("Via", via),
            ("Max-Forwards", "70"),
            *(("Route", route) for route in self.routes),
            ("From", f"{request.find('to')};tag={self.tag}"),
            ("To", request.find("from")),
            ("Call-ID", request.call_id),
            ("CSeq", f"{self.local_cseq} BYE"),
        ]
        return format_message(f"BYE {request.contact or request.uri} SIP/2.0", headers)


class RecordingSession:
    """From an INVITE until a BYE of either side."""

    def __init__(
        self,
        transaction: Transaction,
        body: Body,
        calls: Calls,
        limits: RecordingLimits,
        send_bye: Callable[[Dialog], None],
    ) -> None:
        """Raises `Rejected` and `CallRefused`."""
        if body.offer is None:
            raise Rejected(488, "the INVITE has no offer")
        request = transaction.request
        self.dialog = Dialog(
            request,
            transaction.peer,
            transaction.tag,
            remote_cseq=request.cseq,
            routes=request.find_all("record-route"),
        )
        self._invite = transaction
        self._calls = calls
        self._limits = limits
        self._send_bye = send_bye
        self._metadata = body.metadata or Metadata()
        caller = choose_caller(body.offer, self._metadata, limits.label)
        self._codec = caller.choose_format()
        self._offer = body.offer
        self._start = CallStart(
            find_call_id(request, self._metadata, limits.call_id),
            RawAudio(CODECS[self._codec][0], 8000),
        )
        self._streams: list[_Stream] = []
        self._caller = body.offer.index(caller)
        self._heard = False
        self._muted = False
        self._session = secrets.randbits(31)
        self._version = 0
        self._audio: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._call: LiveCall | None = None
        self._expires: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._over = False
        self._timer_headers = self._set_timer(request)

    @property
    def over(self) -> bool:
        """Whether a BYE was sent or received; the call may still conclude."""
        return self._over

    async def run(self) -> None:
        """Verify the call until the session ends."""
        try:
            async with self._calls.open(self._start, ignore, announced=True) as call:
                self._call = call
                self._negotiate(self._offer, self._caller)
                self._invite.respond(*self._make_ok(answered=True), give_up=self.hang_up)
                self._watch_silence()
                await self._hear(call)
        except Rejected as rejected:
            self._refuse(rejected.status, rejected)
        except CallRefused as refused:
            # not announced, or else: the server was not reached, or the gateway is full
            unavailable = isinstance(refused.__cause__, SaysoError) or not self._calls.accepting
            self._refuse(503 if unavailable else 403, refused)
        except OSError as error:
            self._refuse(503, error)
        except Exception as error:
            log.exception("siprec failed")
            self._refuse(500, error)
        finally:
            self._close()

    def cancel(self) -> bool:
        """The INVITE was cancelled; False if it is answered already."""
        if self._invite.final:
            return False
        self._cancel_timer()
        self._invite.respond(487)
        return True

    def acknowledge(self, cseq: int) -> None:
        if cseq == self._invite.request.cseq:
            self._invite.acknowledge()

    def change(self, transaction: Transaction, body: Body) -> None:
        """A re-INVITE or an UPDATE: hold, streams, metadata. Raises `Rejected`: nothing changed."""
        request = transaction.request
        if not self._invite.final:
            raise Rejected(491, "the session is not answered yet")
        metadata = self._metadata.update(body.metadata) if body.metadata else self._metadata
        caller = self._check_change(body.offer, metadata)
        timer = self._set_timer(request)
        self._metadata, self._timer_headers = metadata, timer
        try:
            self._negotiate(body.offer or tuple(each.media for each in self._streams), caller)
        except OSError as error:
            raise Rejected(503, f"no port for a stream: {error}") from error
        self.dialog.peer = transaction.peer
        if request.find("contact"):
            self.dialog.request = _with_contact(self.dialog.request, request)
        if request.method == "INVITE":
            self._invite = transaction
        answered = body.offer is not None or request.method == "INVITE"
        transaction.respond(*self._make_ok(answered=answered), give_up=self.hang_up)

    def finish(self) -> None:
        """No more audio comes: the call concludes."""
        if self._over:
            return
        for stream in self._streams:
            if stream.receiver is not None:
                stream.receiver.finish()
        self._over = True
        self._audio.put_nowait(None)

    def hang_up(self) -> None:
        """End the session from this side."""
        if not self._over:
            self._send_bye(self.dialog)
            self.finish()

    def _check_change(self, offer: tuple[Media, ...] | None, metadata: Metadata) -> int:
        """The index of the caller's stream after a change; raises `Rejected`."""
        offered = offer if offer is not None else tuple(each.media for each in self._streams)
        if len(offered) < len(self._streams):
            raise Rejected(488, "an offer has fewer streams than the one before")
        wanted = self._limits.label or metadata.find_caller_label()
        caller = next(
            (at for at, each in enumerate(offered) if wanted and each.label == wanted), self._caller
        )
        media = offered[caller]
        if media.port and (not media.usable or media.choose_format(self._codec) != self._codec):
            raise Rejected(488, "the codec of the caller's stream may not change")
        return caller

    def _negotiate(self, offer: tuple[Media, ...], caller: int) -> None:
        """Open a port for each stream that is new and can be taken."""
        for at, media in enumerate(offer):
            if at == len(self._streams):
                self._streams.append(_Stream(media))
            stream = self._streams[at]
            moved = (media.address, media.port) != (stream.media.address, stream.media.port)
            stream.media = media
            if not media.usable:
                continue
            stream.format = media.choose_format(self._codec if at == caller else stream.format)
            hosts = {media.address, self.dialog.peer.host} - {""}
            if stream.receiver is None and at < max(_MAX_STREAMS, caller + 1):
                opened = open_port(self._limits.host, self._limits.ports)
                stream.receiver = StreamReceiver(opened, hosts, int(stream.format))
            elif stream.receiver is not None:
                stream.receiver.payload_type = int(stream.format)
                stream.receiver.heard_at = asyncio.get_running_loop().time()
                if moved:
                    stream.receiver.expect(hosts)
        self._version += 1
        self._listen_to(caller)

    def _listen_to(self, caller: int) -> None:
        """Hear the caller's stream alone. One call is of one stream, and of one voice."""
        label = self._streams[caller].media.label
        mixed = bool(label) and self._metadata.is_mixed(label)
        self._muted = self._muted or (caller != self._caller and self._heard)
        decided = self._call is not None and self._call.done
        if (self._muted or mixed) and self._heard and not decided:
            why = "is mixed with others" if mixed else "is on another stream now"
            log.warning("call %s: the caller %s and not heard", self._start.call_id, why)
        self._caller = caller
        for at, stream in enumerate(self._streams):
            if stream.receiver is not None:
                hears = at == caller and not self._muted and not mixed
                stream.receiver.listen(self._push if hears else None)

    def _push(self, audio: bytes) -> None:
        self._heard = True
        if self._call is None or self._over:
            return
        if self._call.done:  # the rest of the telephone call costs nothing
            self._muted = True
            self._listen_to(self._caller)
            return
        if self._audio.qsize() < _QUEUED_PACKETS:
            self._audio.put_nowait(audio)

    async def _hear(self, call: LiveCall) -> None:
        while (audio := await self._audio.get()) is not None:
            await call.hear(audio)

    def _make_ok(self, *, answered: bool) -> tuple[int, list[Header], bytes]:
        peer = self.dialog.peer
        host = f"[{peer.local_host}]" if ":" in peer.local_host else peer.local_host
        scheme = f";transport={peer.scheme}"
        headers = [
            ("Contact", f"<sip:sayso@{host}:{peer.local_port}{scheme}>;+sip.srs"),
            ("Allow", ALLOW),
            ("Supported", "siprec, timer"),
            *self._timer_headers,
        ]
        if not answered:
            return 200, headers, b""
        answers = [
            Answer(
                each.media,
                each.receiver.port if each.receiver is not None and each.media.usable else 0,
                each.format,
            )
            for each in self._streams
        ]
        headers.append(("Content-Type", "application/sdp"))
        return 200, headers, make_answer(answers, peer.local_host, self._session, self._version)

    def _set_timer(self, request: Request) -> list[Header]:
        """Agree on how long the session lasts without a refresh (RFC 4028), which is the
        platform's to send; raises `Rejected`."""
        seconds, _, parameters = request.find("session-expires").partition(";")
        seconds = seconds.strip()
        if not seconds.isascii() or not seconds.isdecimal():
            self._cancel_timer()
            return []
        expires_s = min(int(seconds[:9]), _MAX_EXPIRES_S)
        if expires_s < MIN_EXPIRES_S:
            raise Rejected(422, "the session would expire too soon", ("Min-SE", str(MIN_EXPIRES_S)))
        self._cancel_timer()
        options = request.list_options("supported") | request.list_options("require")
        if "timer" not in options or "uas" in parameters.lower():
            return []
        self._expires = asyncio.get_running_loop().call_later(
            expires_s - min(32, expires_s / 3), self._expire
        )
        return [("Session-Expires", f"{expires_s};refresher=uac"), ("Require", "timer")]

    def _expire(self) -> None:
        log.warning("call %s: the platform did not refresh the session", self._start.call_id)
        self.hang_up()

    def _cancel_timer(self) -> None:
        if self._expires is not None:
            self._expires.cancel()

    def _watch_silence(self) -> None:
        """End a session of which nothing came for too long, which is longer on hold."""
        loop = asyncio.get_running_loop()
        receivers = [each.receiver for each in self._streams if each.receiver is not None]
        for each in receivers:
            each.check()
        on_hold = not any(each.media.sends for each in self._streams)
        limit_s = self._limits.max_hold_s if on_hold else self._limits.max_pause_s
        if loop.time() - max(each.heard_at for each in receivers) > limit_s:
            log.warning("call %s: no audio came for %.0f s", self._start.call_id, limit_s)
            self.hang_up()
            return
        self._silence = loop.call_later(self._limits.max_pause_s / 4, self._watch_silence)

    def _refuse(self, status: int, why: Exception) -> None:
        log.warning("siprec: call %s refused: %s", self._start.call_id, why)
        headers = [("Retry-After", "10")] if status == 503 else []
        if self._invite.final:
            self.hang_up()
        else:
            self._invite.respond(status, headers)

    def _close(self) -> None:
        self._over = True
        self._cancel_timer()
        if self._silence is not None:
            self._silence.cancel()
        for stream in self._streams:
            if stream.receiver is not None:
                stream.receiver.close()


def _with_contact(request: Request, later: Request) -> Request:
    """The request that opened the session, with the contact of a later one."""
    headers = (*(each for each in request.headers if each[0] != "contact"),
               ("contact", later.find("contact")))  # fmt: skip
    return Request(headers, request.body, request.method, request.uri)
