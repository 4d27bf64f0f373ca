"""WebM files as browsers' recorders write them, made of the packets of an Ogg Opus file."""

from collections.abc import Iterable, Sequence

UNKNOWN = b"\x01" + b"\xff" * 7
SEGMENT, CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
TRACKS, TRACK = b"\x16\x54\xae\x6b", b"\xae"
EBML = b"\x1a\x45\xdf\xa3"


def element(name: bytes, content: bytes, *, size: bytes | None = None) -> bytes:
    """An element with its size in eight bytes, or with `size` as it is written."""
    written = (len(content) | 1 << 56).to_bytes(8) if size is None else size
    return name + written + content


def track(head: bytes, number: int = 1, codec: bytes = b"A_OPUS", more: bytes = b"") -> bytes:
    return element(
        TRACK,
        element(b"\xd7", bytes([number]))
        + element(b"\x83", b"\x02")
        + element(b"\x86", codec)
        + element(b"\x63\xa2", head)
        + more,
    )


def block(packet: bytes, time_ms: int, *, number: int = 1, flags: int = 0x80) -> bytes:
    content = bytes([0x80 | number]) + time_ms.to_bytes(2) + bytes([flags]) + packet
    return element(b"\xa3", content)


def write(
    packets: Sequence[bytes], *, tracks: Iterable[bytes], blocks: bytes | None = None
) -> bytes:
    """A file of two clusters of unknown sizes, as of a recorder that streams."""
    made = [block(packet, 20 * at) for at, packet in enumerate(packets)]
    half = len(made) // 2
    clusters = [b"".join(made[:half]), b"".join(made[half:])] if blocks is None else [blocks]
    return (
        element(EBML, element(b"\x42\x82", b"webm"))
        + element(SEGMENT, b"", size=UNKNOWN)
        + element(TRACKS, b"".join(tracks))
        + b"".join(element(CLUSTER, b"", size=UNKNOWN) + cluster for cluster in clusters)
    )


def read_ogg(ogg: bytes) -> tuple[bytes, list[bytes]]:
    """The OpusHead and the packets of an Ogg file whose packets all end on their page."""
    packets: list[bytes] = []
    at, part = 0, b""
    while at < len(ogg):
        count = ogg[at + 26]
        lacing = ogg[at + 27 : at + 27 + count]
        at += 27 + count
        for size in lacing:
            part += ogg[at : at + size]
            at += size
            if size < 255:
                packets.append(part)
                part = b""
    return packets[0], packets[2:]


def convert(ogg: bytes) -> bytes:
    """The same audio in WebM."""
    head, packets = read_ogg(ogg)
    return write(packets, tracks=[track(head)])
