"""RTP (RFC 3550): the audio of one stream, from one source, in its order."""

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass

from gateway import metrics

log = logging.getLogger(__name__)

_HEADER_BYTES = 12
_MAX_PACKET_BYTES = 2048
_RTCP_TYPES = range(192, 224)
_WAITING_PACKETS = 5  # 100 ms: what is later than that is lost
_MAX_DROPOUT = 3000
_PROBATION_PACKETS = 5
_TRIED_PORTS = 200
_READ_AT_ONCE = 8
_COLLECTED_PACKETS = 10_000
_LOST = metrics.LOST_FRAMES.labels("siprec")
_REORDERED = metrics.REORDERED_FRAMES.labels("siprec")


@dataclass(frozen=True, slots=True)
class Packet:
    sequence: int
    ssrc: int
    payload_type: int
    payload: bytes


def parse_packet(data: bytes) -> Packet | None:
    """None for what is no RTP, RTCP included."""
    if not _HEADER_BYTES < len(data) <= _MAX_PACKET_BYTES or data[0] >> 6 != 2:
        return None
    if data[1] in _RTCP_TYPES:
        return None
    start, end = _HEADER_BYTES + 4 * (data[0] & 0x0F), len(data)
    if data[0] & 0x10:
        if start + 4 > end:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4])
    if data[0] & 0x20:
        end -= data[-1] or end
    if start >= end:
        return None
    return Packet(
        sequence=int.from_bytes(data[2:4]),
        ssrc=int.from_bytes(data[8:12]),
        payload_type=data[1] & 0x7F,
        payload=data[start:end],
    )


class PacketOrder:
    """Puts packets in the order of their numbers, which wrap. What is missing is waited for until
    some later packets have come, and nothing is put in its place."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._waiting: dict[int, bytes] = {}
        self._restart: int | None = None

    def add(self, sequence: int, payload: bytes) -> list[bytes]:
        """Take the next packet that came, give those whose turn it is."""
        if self._next is None:
            self._next = sequence
        ahead = (sequence - self._next) & 0xFFFF
        if ahead >= _MAX_DROPOUT:
            return self._judge_jump(sequence, payload, behind=0x10000 - ahead)
        self._restart = None
        self._waiting[sequence] = payload
        ready = self._take()
        while len(self._waiting) > _WAITING_PACKETS:
            expected = self._next
            self._next = min(self._waiting, key=lambda each: (each - expected) & 0xFFFF)
            _LOST.inc((self._next - expected) & 0xFFFF)
            ready += self._take()
        return ready

    def rest(self) -> list[bytes]:
        """The packets that are left when the stream ends, or begins anew."""
        expected = self._next or 0
        left = sorted(self._waiting, key=lambda each: (each - expected) & 0xFFFF)
        ready = [self._waiting[each] for each in left]
        self._waiting.clear()
        self._next = None
        return ready

    def _take(self) -> list[bytes]:
        ready = []
        assert self._next is not None
        while self._next in self._waiting:
            ready.append(self._waiting.pop(self._next))
            self._next = (self._next + 1) & 0xFFFF
        return ready

    def _judge_jump(self, sequence: int, payload: bytes, *, behind: int) -> list[bytes]:
        """Drop what is late; two packets in a row from elsewhere are a sender that restarted."""
        if behind <= _WAITING_PACKETS * 20:
            _REORDERED.inc()
            return []
        if sequence != self._restart:
            self._restart = (sequence + 1) & 0xFFFF
            return []
        ready = self.rest()
        return ready + self.add(sequence, payload)


Hear = Callable[[bytes], None]


class StreamReceiver:
    """One stream on a socket: from the first source that may send it, and one SSRC at a time.

    Only a stream that is listened to is read. Others collect in the socket, at no cost, and are
    thrown away when somebody asks whether they still come.
    """

    def __init__(self, opened: socket.socket, hosts: Collection[str], payload_type: int) -> None:
        self.port: int = opened.getsockname()[1]
        self.payload_type = payload_type
        self._hear: Hear | None = None
        self._hosts = hosts
        self._socket = opened
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        self._order = PacketOrder()
        self._source: tuple[str, int] | None = None
        self._ssrc: int | None = None
        self._candidate: tuple[int, int] = (0, 0)  # an SSRC that may follow, and its packets so far
        self._warned = False

    def listen(self, hear: Hear | None) -> None:
        """Call `hear` with the payloads in their order from now on; None: read no more."""
        if hear is not None and self._hear is None:
            self.check()  # what came before is not of the caller
            self._loop.add_reader(self._socket, self._read)
        elif hear is None and self._hear is not None:
            self._loop.remove_reader(self._socket)
        self._hear = hear

    def check(self) -> None:
        """Note whether anything came of a stream that is not listened to."""
        if self._hear is not None:
            return
        with contextlib.suppress(OSError):
            for _ in range(_COLLECTED_PACKETS):
                _, address = self._socket.recvfrom(1)
                if address[0] in self._hosts:
                    self.heard_at = self._loop.time()

    def expect(self, hosts: Collection[str]) -> None:
        """A new offer: the stream may come from elsewhere from now on."""
        self._hosts = hosts
        self._source = None

    def close(self) -> None:
        if self._hear is not None:
            self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(_READ_AT_ONCE):
            try:
                data, address = self._socket.recvfrom(_MAX_PACKET_BYTES + 1)
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP message, of what was never sent
                log.debug("siprec: rtp: %s", error)
                return
            self.receive(data, (address[0].partition("%")[0], address[1]))

    def receive(self, data: bytes, source: tuple[str, int]) -> None:
        """Take a datagram."""
        packet = parse_packet(data)
        if packet is None or not self._check_source(source):
            return
        if packet.payload_type != self.payload_type or not self._check_ssrc(packet.ssrc):
            return
        self.heard_at = self._loop.time()
        self._give(self._order.add(packet.sequence, packet.payload))

    def finish(self) -> None:
        """The stream ended: hear what waits for a packet that never came."""
        self._give(self._order.rest())

    def _give(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            if self._hear is not None:
                self._hear(payload)

    def _check_source(self, source: tuple[str, int]) -> bool:
        if self._source is None and source[0] in self._hosts:
            self._source = source
        if source == self._source:
            return True
        if not self._warned:
            self._warned = True
            log.warning("siprec: audio from %s port %d is not of the call; dropped", *source)
        return False

    def _check_ssrc(self, ssrc: int) -> bool:
        """Another SSRC follows once it has come for a while and the previous one has not."""
        if self._ssrc is None:
            self._ssrc = ssrc
        if ssrc == self._ssrc:
            self._candidate = (0, 0)
            return True
        candidate, count = self._candidate
        count = count + 1 if candidate == ssrc else 1
        self._candidate = (ssrc, count)
        if count < _PROBATION_PACKETS:
            return False
        self.finish()
        self._ssrc = ssrc
        return True


def open_port(host: str, ports: range) -> socket.socket:
    """A socket on an even port of the range, as the odd ones are for RTCP; raises OSError."""
    even = range(ports.start + ports.start % 2, ports.stop, 2)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in random.sample(even, min(len(even), _TRIED_PORTS)):
        opened = socket.socket(family, socket.SOCK_DGRAM)
        try:
            opened.bind((host, port))
        except OSError:
            opened.close()
            continue
        opened.setblocking(False)
        return opened
    raise OSError(f"no port of {ports.start}-{ports.stop - 1} is free")
