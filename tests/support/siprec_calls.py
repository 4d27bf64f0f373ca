"""Recording sessions as session border controllers open them: SIP, metadata and RTP, written from
the RFCs and not with the gateway's own code."""

import asyncio
import itertools
import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from typing import Any, Self

from tests.support.call_audio import split

SESSION = "kQNhKFdEEeeJ9tD/VsPGWA=="
RFC_7865 = f"""<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1">
  <datamode>complete</datamode>
  <session session_id="{SESSION}"><sipSessionID>e9ff;remote=cd0f</sipSessionID></session>
  <participant participant_id="p1"><nameID aor="sip:7301@192.0.2.1"/></participant>
  <participant participant_id="p2"><nameID aor="sip:7300@192.0.2.1"/></participant>
  <stream stream_id="s1" session_id="{SESSION}"><label>1</label></stream>
  <stream stream_id="s2" session_id="{SESSION}"><label>2</label></stream>
  <participantstreamassoc participant_id="p1"><send>s1</send><recv>s2</recv>
  </participantstreamassoc>
  <participantstreamassoc participant_id="p2"><send>s2</send><recv>s1</recv>
  </participantstreamassoc>
</recording>"""
ORACLE = """<?xml version='1.0' encoding='UTF-8'?>
<recording xmlns='urn:ietf:params:xml:ns:recording'>
  <datamode>complete</datamode>
  <session id="oracle-1"><extensiondata xmlns:apkt="http://acmepacket.com/siprec/extensiondata">
    <apkt:ucid>00FA081003;encoding=hex</apkt:ucid></extensiondata></session>
  <participant id="a" session="oracle-1"><nameID aor="sip:9000@192.0.2.2"/><send>x</send>
    <extensiondata xmlns:apkt="http://acmepacket.com/siprec/extensiondata">
      <apkt:callingParty>false</apkt:callingParty></extensiondata></participant>
  <participant id="b" session="oracle-1"><nameID aor="sip:1002@192.0.2.2"/><send>y</send>
    <extensiondata xmlns:apkt="http://acmepacket.com/siprec/extensiondata">
      <apkt:callingParty>true</apkt:callingParty>
      <apkt:header label="Call-ID"><value>134485702@192.0.2.2</value></apkt:header>
    </extensiondata></participant>
  <stream id="x" session="oracle-1"><label>1</label><mode>separate</mode></stream>
  <stream id="y" session="oracle-1"><label>2</label><mode>separate</mode></stream>
</recording>"""
RIBBON = """<?xml version="1.0" encoding="UTF-8"?>
<tns:recording xmlns:tns='urn:ietf:params:xml:ns:recording'>
  <tns:datamode>complete</tns:datamode>
  <tns:group group_id="g"><callData xmlns='urn:ietf:params:xml:ns:callData'>
    <fromhdr>"A caller" &lt;sip:8500@192.0.2.3&gt;;tag=S</fromhdr>
    <tohdr>&lt;sip:8012@192.0.2.3&gt;;tag=g</tohdr>
    <callid>2da553f7-a48b</callid></callData></tns:group>
  <tns:session session_id="ribbon-1"/>
  <tns:participant participant_id="a"><tns:nameID aor="8500@192.0.2.3"/></tns:participant>
  <tns:participant participant_id="b"><tns:nameID aor="8012@192.0.2.3"/></tns:participant>
  <tns:stream stream_id="x" session_id="ribbon-1"><tns:label>1</tns:label></tns:stream>
  <tns:stream stream_id="y" session_id="ribbon-1"><tns:label>2</tns:label></tns:stream>
  <tns:participantstreamassoc participant_id="a"><tns:send>y</tns:send></tns:participantstreamassoc>
  <tns:participantstreamassoc participant_id="b"><tns:send>x</tns:send></tns:participantstreamassoc>
</tns:recording>"""


def make_offer(
    ports: Iterable[int], *, codec: int = 0, direction: str = "sendonly", host: str = "127.0.0.1"
) -> str:
    """One stream for each port, with the labels 1, 2 and so on."""
    lines = ["v=0", f"o=sbc 1 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0"]
    for label, port in enumerate(ports, 1):
        lines += [f"m=audio {port} RTP/AVP {codec} 101", "a=rtpmap:101 telephone-event/8000",
                  f"a=label:{label}", f"a={direction}"]  # fmt: skip
    return "\r\n".join((*lines, ""))


def make_body(offer: str, metadata: str | None) -> tuple[str, bytes]:
    """Content-Type and body."""
    if metadata is None:
        return "application/sdp", offer.encode()
    parts = [
        f"--part\r\nContent-Type: application/sdp\r\n\r\n{offer}\r\n",
        "--part\r\nContent-Type: application/rs-metadata+xml\r\n"
        f"Content-Disposition: recording-session\r\n\r\n{metadata}\r\n",
        "--part--\r\n",
    ]
    return "multipart/mixed;boundary=part", "".join(parts).encode()


def make_rtp(
    payload: bytes, sequence: int, *, codec: int = 0, ssrc: int = 0x1234, version: int = 2
) -> bytes:
    time = (sequence * 160) & 0xFFFFFFFF
    head = bytes((version << 6, codec)) + (sequence & 0xFFFF).to_bytes(2)
    return head + time.to_bytes(4) + ssrc.to_bytes(4) + payload


def make_packets(audio: bytes, first: int = 65_500, codec: int = 0) -> list[bytes]:
    """RTP of 20 ms each, whose numbers wrap."""
    return [make_rtp(each, first + at, codec=codec) for at, each in enumerate(split(audio))]


class Answer:
    """A response, or a request of the gateway."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.first = first
        self.status = int(first.split()[1]) if first.startswith("SIP/2.0") else 0
        self.headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }

    @property
    def ports(self) -> list[int]:
        return [int(port) for port in re.findall(r"^m=audio (\d+)", self.body.decode(), re.M)]


class SipClient:
    """One dialog of a session recording client, over UDP, TCP or TLS."""

    _ids = itertools.count(1)

    def __init__(
        self, address: str, transport: str = "udp", *, tls: ssl.SSLContext | None = None
    ) -> None:
        host, port = address.rsplit(":", 1)
        self._remote = host, int(port)
        self.transport = transport
        self._tls = tls
        self.call_id = f"recording-{next(self._ids)}@sbc"
        self.cseq = 0
        self.to_tag = ""
        self.branch = ""

    def at(self, local: tuple[str, int]) -> Self:
        """This client as if it had connected, for messages that are only made."""
        self._local = local
        return self

    async def __aenter__(self) -> Self:
        if self.transport == "udp":
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.bind(("127.0.0.1", 0))
            self._socket.connect(self._remote)
            self._local = self._socket.getsockname()
        else:
            self._reader, self._writer = await asyncio.open_connection(
                *self._remote, ssl=self._tls, server_hostname="localhost" if self._tls else None
            )
            self._local = self._writer.get_extra_info("sockname")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.transport == "udp":
            self._socket.close()
        else:
            self._writer.transport.abort()

    def make(
        self, method: str, body: bytes = b"", kind: str = "", *, cseq: int | None = None,
        branch: str = "", **headers: str,
    ) -> bytes:  # fmt: skip
        """A request; of `headers` an underscore is a hyphen."""
        if method not in ("ACK", "CANCEL"):
            self.cseq += 1
            self.branch = f"z9hG4bK-{self.call_id}-{self.cseq}"
        port = self._local[1]
        to = f";tag={self.to_tag}" if self.to_tag else ""
        lines = [
            f"{method} sip:srs@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/{self.transport.upper()} 127.0.0.1:{port};"
            f"branch={branch or self.branch};rport",
            "Max-Forwards: 70",
            "f: <sip:sbc@127.0.0.1>;tag=sbc",
            f"To: <sip:srs@127.0.0.1>{to}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {cseq or self.cseq} {method}",
            f"Contact: <sip:sbc@127.0.0.1:{port}>;+sip.src",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
            *([f"Content-Type: {kind}"] if kind else []),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join((*lines, "", "")).encode() + body

    async def send(self, data: bytes) -> None:
        if self.transport == "udp":
            self._socket.send(data)
        else:
            self._writer.write(data)
            await self._writer.drain()

    async def receive(self, within_s: float = 10.0) -> Answer:
        async with asyncio.timeout(within_s):
            if self.transport == "udp":
                return Answer(await asyncio.get_running_loop().sock_recv(self._socket, 65536))
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(re.findall(rb"Content-Length: (\d+)", head)[0])
            return Answer(head + await self._reader.readexactly(length))

    async def ask(self, method: str, body: bytes = b"", kind: str = "", **headers: Any) -> Answer:
        """Send a request; its final response."""
        await self.send(self.make(method, body, kind, **headers))
        while (answer := await self.receive()).status < 200:
            pass
        return answer

    async def invite(self, offer: str, metadata: str | None = RFC_7865, **headers: str) -> Answer:
        """Open or change the session, and acknowledge what is answered."""
        kind, body = make_body(offer, metadata)
        answer = await self.ask("INVITE", body, kind, **({"Require": "siprec"} | headers))
        if answer.status == 200:
            self.to_tag = answer.headers["to"].partition("tag=")[2]
            await self.send(self.make("ACK", branch=f"{self.branch}-ack"))
        else:
            await self.send(self.make("ACK"))
        return answer


class RtpSender:
    """A socket that streams come from."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def send(self, packets: Iterable[bytes], port: int, pace_s: float = 0.001) -> None:
        """Faster than a call is, and slower than what overruns a socket's buffer."""
        for packet in packets:
            self._socket.sendto(packet, ("127.0.0.1", port))
            await asyncio.sleep(pace_s)


def swap_neighbours(packets: list[bytes]) -> Iterator[bytes]:
    for at in range(0, len(packets), 2):
        yield from reversed(packets[at : at + 2])
