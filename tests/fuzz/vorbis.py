"""An Ogg Vorbis file of 229 bytes whose setup announces a codebook of as many entries as one likes.

Vorbis I specification, sections 3.2.1 (codebooks) and 4.2 (headers); bits go from the lowest up.
"""

from tests.fuzz import checksums

_IDENTIFICATION = b"\x01vorbis" + bytes(4) + b"\x01\x80\x3e\0\0" + bytes(12) + b"\xb8\x01"
_COMMENT = b"\x03vorbis" + bytes(8) + b"\x01"


def file(log2_entries: int) -> bytes:
    """16 kHz, one channel; two codebooks, the second with that many entries."""
    return checksums.ogg(
        _page(2, 0, [_IDENTIFICATION])
        + _page(0, 1, [_COMMENT, _setup(log2_entries)])
        + _page(4, 2, [b"\0\0", b"\0\0"])
    )


def _page(flags: int, number: int, packets: list[bytes]) -> bytes:
    lacing = b"".join(b"\xff" * (len(each) // 255) + bytes((len(each) % 255,)) for each in packets)
    head = b"OggS\0" + bytes((flags,)) + bytes(8) + b"made" + number.to_bytes(4, "little")
    return head + bytes(4) + bytes((len(lacing),)) + lacing + b"".join(packets)


def _setup(log2_entries: int) -> bytes:
    floor = ((0, 6), (1, 16), (0, 5), (0, 2), (4, 4))
    residue = ((0, 6), (0, 16), (0, 72), (0, 6), (0, 8), (0, 4))
    mapping = ((0, 6), (0, 16), (0, 4), (0, 24))
    mode = ((0, 6), (0, 41), (1, 1))
    books = (*_codebook(1), *_codebook(log2_entries))
    fields = ((1, 8), *books, (0, 6), (0, 16), *floor, *residue, *mapping, *mode)
    value = at = 0
    for field, bits in fields:
        value |= field << at
        at += bits
    return b"\x05vorbis" + value.to_bytes((at + 7) // 8, "little")


def _codebook(log2_entries: int) -> tuple[tuple[int, int], ...]:
    """Of one dimension; the lengths of all its codewords are the same, in one number."""
    entries = 1 << log2_entries
    lengths = ((1, 1), (log2_entries - 1, 5), (entries, entries.bit_length()))
    return ((0x564342, 24), (1, 16), (entries, 24), *lengths, (0, 4))
