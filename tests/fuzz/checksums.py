"""Checksums of Ogg pages and FLAC frames put right, so that a changed file gets past them."""

import itertools
from collections.abc import Iterator

_PAGE_HEADER_BYTES = 27
_PAGE_CHECKSUM = slice(22, 26)
_FLAC_SYNCS = (b"\xff\xf8", b"\xff\xf9")
_LONG_SIZES = {6: 1, 7: 2}
_LONG_RATES = {12: 1, 13: 2, 14: 2}


def _table(polynomial: int, bits: int) -> list[int]:
    top, mask, table = 1 << (bits - 1), (1 << bits) - 1, []
    for value in range(256):
        crc = value << (bits - 8)
        for _ in range(8):
            crc = (crc << 1) ^ (polynomial if crc & top else 0)
        table.append(crc & mask)
    return table


_CRC8, _CRC16, _CRC32 = _table(0x07, 8), _table(0x8005, 16), _table(0x04C11DB7, 32)


def _crc(data: bytes | bytearray, table: list[int], bits: int) -> int:
    crc, shift, mask = 0, bits - 8, (1 << bits) - 1
    for value in data:
        crc = ((crc << 8) & mask) ^ table[(crc >> shift) ^ value]
    return crc


def ogg(data: bytes) -> bytes:
    """With the checksum of every whole page (RFC 3533, section 6) as its content has it."""
    changed = bytearray(data)
    for start, end in _pages(data):
        page = changed[start:end]
        page[_PAGE_CHECKSUM] = bytes(4)
        page[_PAGE_CHECKSUM] = _crc(page, _CRC32, 32).to_bytes(4, "little")
        changed[start:end] = page
    return bytes(changed)


def _pages(data: bytes) -> Iterator[tuple[int, int]]:
    start = data.find(b"OggS")
    while start >= 0 and start + _PAGE_HEADER_BYTES <= len(data):
        lacing = start + _PAGE_HEADER_BYTES
        body = lacing + data[lacing - 1]
        end = body + sum(data[lacing:body])
        if end <= len(data):
            yield start, end
        start = data.find(b"OggS", start + 4)


def flac(data: bytes) -> bytes:
    """With the checksums of each frame's header and of the frame (RFC 9639, 9.1.8 and 9.3) as the
    bytes up to the next thing that looks like a frame have it."""
    changed = bytearray(data)
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] in _FLAC_SYNCS]
    for start, end in itertools.pairwise([*starts, len(data)]):
        header = start + _frame_header_bytes(data[start:end])
        if header + 3 > end:
            continue
        changed[header] = _crc(changed[start:header], _CRC8, 8)
        changed[end - 2 : end] = _crc(changed[start : end - 2], _CRC16, 16).to_bytes(2, "big")
    return bytes(changed)


def _frame_header_bytes(frame: bytes) -> int:
    """Up to its checksum: four bytes, the coded number, and sizes and rates that are spelt out."""
    if len(frame) < 5:
        return len(frame)
    ones = 8 - (frame[4] ^ 0xFF).bit_length()
    number = max(1, ones)
    return 4 + number + _LONG_SIZES.get(frame[2] >> 4, 0) + _LONG_RATES.get(frame[2] & 15, 0)
