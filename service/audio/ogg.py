"""Ogg Opus (RFC 3533, 7845): rewrites a file as streams that libsndfile decodes in full.

    pages -> check -> links of the chain -> packets, lost ones concealed -> new pages

libsndfile decodes only the first link of a chain, takes the rate that OpusHead mentions for that of
the samples, and counts a lost packet as samples missing at the end. It must not be given Vorbis,
whose headers of 200 bytes can make libvorbis overflow the stack, nor damaged pages, in which libogg
looks for a page at every "OggS": that takes minutes for some files of 16 MB.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from service.audio import containers
from service.errors import AudioError

RATE = 48_000  # of every Opus stream

_HEADER = struct.Struct("<4sBBqIIIB")
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_CHECKSUM = slice(22, 26)
_CRC_OF_ZERO = 0xFFFF_FFFF
_BITS_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_MAX_SEGMENTS = 255
_HEAD_BYTES, _HEAD_RATE = 19, slice(12, 16)
_TAGS = b"OpusTags" + struct.pack("<I", 0) + struct.pack("<I", 0)
_MAX_PACKET_SAMPLES = RATE * 120 // 1000
_MAX_PACKET_BYTES = 254 * 255
_MOST_CONCEALED = RATE
_MAX_LINKS = 1_000
_SLACK_S = 1.0  # what is skipped or trimmed
_FRAMES = 3  # bits of a packet's first byte that say how many frames it holds
_SILK_MS, _HYBRID_MS, _CELT_MS = (10, 20, 40, 60), (10, 20), (2.5, 5, 10, 20)
_DAMAGED = "the file's Opus stream is damaged; send the whole file"


@dataclass(frozen=True, slots=True)
class _Page:
    """`finished` says whether the last of the packets ends on this page."""

    flags: int
    granule: int
    serial: int
    packets: list[bytes]
    finished: bool


@dataclass(slots=True)
class _Link:
    """One logical stream: its head, and its packets with how many samples each decodes to."""

    serial: int
    head: bytes
    packets: list[tuple[bytes, int]] = field(default_factory=list)
    trimmed: int = 0  # samples that the last page takes off the end


def split_streams(data: bytes, *, max_s: float) -> Iterator[bytes]:
    """Return every link of a chain as a file of its own; raises `AudioError`, also for more than
    `max_s` seconds of packets."""
    links = [link for link in _read_links(data, max_s) if link.packets]
    if not links:
        raise AudioError("the Ogg file holds no samples; record it again")
    return (b"".join(_write_pages(link)) for link in links)


def wrap_packets(head: bytes, packets: Iterable[bytes], *, max_s: float) -> bytes:
    """Return an Ogg Opus file of packets that came in another container, with their OpusHead;
    raises `AudioError`, also for more than `max_s` seconds."""
    link, room = _Link(1, _check_head(head)), (max_s + _SLACK_S) * RATE
    for packet in packets:
        samples = _count_samples(packet)
        room -= samples
        if room < 0:
            raise AudioError(f"the audio is longer than the limit of {max_s:g} s; send less")
        link.packets.append((packet, samples))
    if not link.packets:
        raise AudioError("the file holds no samples; record it again")
    return b"".join(_write_pages(link))


def _read_links(data: bytes, max_s: float) -> list[_Link]:
    links, reader, room = list[_Link](), None, (max_s + _SLACK_S) * RATE
    for page in _read_pages(data):
        if page.flags & _FIRST:
            links.append(_open_link(page))
            reader = _Reader(links[-1])
        elif reader is None or page.serial != links[-1].serial:
            raise AudioError(f"the Ogg file holds more than one stream; {containers.advise()}")
        else:
            room -= reader.add(page)
        if len(links) > _MAX_LINKS or room < 0:
            raise AudioError(f"the audio is longer than the limit of {max_s:g} s; send less")
    return links


def _open_link(page: _Page) -> _Link:
    head = page.packets[0] if len(page.packets) == 1 else b""
    return _Link(page.serial, _check_head(head))


def _check_head(head: bytes) -> bytes:
    """Return an OpusHead that mentions the rate of the samples; raises `AudioError`."""
    if not head.startswith(b"OpusHead") or len(head) < _HEAD_BYTES:
        raise AudioError(f"the file holds something else than Opus; {containers.advise()}")
    rate = RATE.to_bytes(4, "little")
    return head[: _HEAD_RATE.start] + rate + head[_HEAD_RATE.stop :]


class _Reader:
    """Adds the packets of pages to a link, and packets that conceal those that were lost."""

    def __init__(self, link: _Link) -> None:
        self._link = link
        self._part = bytearray()  # of a packet that goes on in the next page
        self._granule: int | None = None

    def add(self, page: _Page) -> int:
        """Add the next page; returns how many samples its packets decode to, concealed ones
        included."""
        packets = [packet for packet in self._join_packets(page) if packet]
        if packets and packets[0].startswith(b"OpusTags"):
            del packets[0]
        sized = [(packet, _count_samples(packet)) for packet in packets]
        samples = sum(size for _, size in sized)
        concealed = self._conceal(page.granule - samples) if sized else []
        if sized and page.granule >= 0:
            if page.flags & _LAST:
                begins = self._granule or 0
                self._link.trimmed = min(samples, max(0, begins + samples - page.granule))
            self._granule = page.granule
        self._link.packets += concealed + sized
        return samples + sum(size for _, size in concealed)

    def _join_packets(self, page: _Page) -> list[bytes]:
        """Return the packets that end on this page, without one whose beginning is lost."""
        packets, part = list(page.packets), self._part
        self._part = bytearray()
        if page.flags & _CONTINUED and packets:
            ending = packets.pop(0)
            if part:
                part += ending
                if not packets and not page.finished:
                    self._part = part
                    return []
                packets.insert(0, bytes(part))
        if packets and not page.finished:
            self._part = bytearray(packets.pop())
        return packets

    def _conceal(self, begins: int) -> list[tuple[bytes, int]]:
        """Return an empty packet, which the decoder conceals, for each packet that was lost before
        the sample `begins`."""
        if self._granule is None or not self._link.packets:
            return []
        packet, _ = self._link.packets[-1]
        frame = _count_frame_samples(packet[0])
        lost = min(begins - self._granule, _MOST_CONCEALED)
        return [(bytes([packet[0] & ~_FRAMES]), frame)] * max(0, round(lost / frame))


def _read_pages(data: bytes) -> Iterator[_Page]:
    """Yield the pages but for one that is cut short at the end; raises `AudioError` for any other
    damage."""
    at = 0
    while at < len(data):
        if data[at : at + 5] != b"OggS\x00"[: len(data) - at]:
            raise AudioError(_DAMAGED)
        lacing = at + _HEADER.size
        body = lacing + data[lacing - 1] if lacing <= len(data) else len(data) + 1
        end = body + sum(data[lacing:body])
        if end > len(data):
            return
        if not _checksum_matches(data[at:end]):
            raise AudioError(_DAMAGED)
        _, _, flags, granule, serial, _, _, _ = _HEADER.unpack_from(data, at)
        packets, finished = _split_packets(data[body:end], data[lacing:body])
        yield _Page(flags, granule, serial, packets, finished)
        at = end


def _split_packets(body: bytes, lacing: bytes) -> tuple[list[bytes], bool]:
    """Return the packets of a page, and whether the last one ends on it."""
    packets, start, end = list[bytes](), 0, 0
    for size in lacing:
        end += size
        if size < _MAX_SEGMENTS:
            packets.append(body[start:end])
            start = end
    finished = not lacing or lacing[-1] < _MAX_SEGMENTS
    return (packets if finished else [*packets, body[start:end]]), finished


def _count_samples(packet: bytes) -> int:
    """Count the samples that a packet decodes to (RFC 6716, section 3.1)."""
    match packet[0] & _FRAMES:
        case 0:
            frames = 1
        case 3:
            frames = packet[1] & 63 if len(packet) > 1 else 0
        case _:
            frames = 2
    samples = frames * _count_frame_samples(packet[0])
    if not 0 < samples <= _MAX_PACKET_SAMPLES or len(packet) > _MAX_PACKET_BYTES:
        raise AudioError(_DAMAGED)
    return samples


def _count_frame_samples(toc: int) -> int:
    mode = toc >> 3
    if mode < 12:
        length_ms: float = _SILK_MS[mode & 3]
    elif mode < 16:
        length_ms = _HYBRID_MS[mode & 1]
    else:
        length_ms = _CELT_MS[mode & 3]
    return int(length_ms * RATE / 1000)


def _write_pages(link: _Link) -> Iterator[bytes]:
    """Yield the pages of one stream, one for each packet after those of the headers."""
    yield _write_page(link.head, _FIRST, 0, 0)
    yield _write_page(_TAGS, 0, 0, 1)
    granule, last = 0, len(link.packets) - 1
    for number, (packet, samples) in enumerate(link.packets):
        granule += samples
        if number == last:
            yield _write_page(packet, _LAST, granule - link.trimmed, number + 2)
        else:
            yield _write_page(packet, 0, granule, number + 2)


def _write_page(packet: bytes, flags: int, granule: int, number: int) -> bytes:
    lacing = bytes([_MAX_SEGMENTS] * (len(packet) // _MAX_SEGMENTS) + [len(packet) % _MAX_SEGMENTS])
    header = _HEADER.pack(b"OggS", 0, flags, granule, 1, number, 0, len(lacing))
    page = header + lacing + packet
    return page[: _CHECKSUM.start] + _compute_checksum(page) + page[_CHECKSUM.stop :]


def _checksum_matches(page: bytes) -> bool:
    cleared = page[: _CHECKSUM.start] + bytes(4) + page[_CHECKSUM.stop :]
    return _compute_checksum(cleared) == page[_CHECKSUM]


def _compute_checksum(page: bytes) -> bytes:
    """Compute Ogg's checksum: zlib's CRC (ISO 3309) with the bits in reverse order, starting from
    zero and not inverted."""
    reversed_crc = zlib.crc32(page.translate(_BITS_REVERSED), _CRC_OF_ZERO) ^ _CRC_OF_ZERO
    return reversed_crc.to_bytes(4).translate(_BITS_REVERSED)
