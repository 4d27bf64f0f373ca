"""WebM and Matroska (RFC 9559) with Opus, as browsers record: takes the packets out, for a file
that libsndfile decodes.

    elements ─> track of audio ─> packets of its blocks ─> ogg.wrap_packets

Recorders that stream leave the sizes of segment and clusters unknown, so that no element's end is
trusted: containers of elements are entered as they come, and all others are skipped by their size.
A last element that is cut short is left out. Silence that a recorder did not send is not filled.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from service.audio import containers, ogg
from service.errors import AudioError

_SEGMENT, _CLUSTER, _BLOCK_GROUP = 0x1853_8067, 0x1F43_B675, 0xA0
_TRACKS, _TRACK = 0x1654_AE6B, 0xAE
_ENTERED = frozenset({_SEGMENT, _CLUSTER, _BLOCK_GROUP, _TRACKS, _TRACK})
_TRACK_NUMBER, _TRACK_TYPE, _CODEC, _CODEC_PRIVATE = 0xD7, 0x83, 0x86, 0x63A2
_CONTENT_ENCODINGS = 0x6D80
_BLOCKS = frozenset({0xA3, 0xA1})  # SimpleBlock, and Block in a BlockGroup
_AUDIO = 2
_LACING = 0x06
_BLOCK_HEADER_BYTES = 3  # after the track's number: time, two bytes, and flags
_MAX_ELEMENTS = 200_000
_MAX_NUMBER_BYTES = 8
_DAMAGED = f"the WebM file is damaged: send all of it, or {containers.advise()}"


@dataclass(slots=True)
class _Track:
    number: int = 0
    type: int = 0
    codec: bytes = b""
    head: bytes = b""
    is_encoded: bool = False  # encrypted, or compressed once more


def extract_opus(data: bytes, *, max_s: float) -> bytes:
    """Return the one track of audio as an Ogg Opus file; raises `AudioError`, also for more than
    `max_s` seconds of packets."""
    tracks = list[_Track]()
    blocks = list[tuple[int, bytes]]()
    for element, content in _read_elements(data):
        if element == _TRACK:
            tracks.append(_Track())
        elif element in _BLOCKS:
            blocks.append(_read_block(content))
        elif tracks:
            _describe(tracks[-1], element, content)
    track = _choose_track(tracks)
    packets = (packet for number, packet in blocks if number == track.number and packet)
    return ogg.wrap_packets(track.head, packets, max_s=max_s)


def _choose_track(tracks: list[_Track]) -> _Track:
    audio = [track for track in tracks if track.type == _AUDIO]
    if len(audio) != 1:
        raise AudioError(
            f"the WebM file has {len(audio)} tracks of audio; send one; {containers.advise()}"
        )
    if audio[0].codec != b"A_OPUS" or audio[0].is_encoded:
        raise AudioError(f"the WebM file holds something else than Opus; {containers.advise()}")
    return audio[0]


def _describe(track: _Track, element: int, content: bytes) -> None:
    if element == _TRACK_NUMBER:
        track.number = int.from_bytes(content[:_MAX_NUMBER_BYTES])
    elif element == _TRACK_TYPE:
        track.type = int.from_bytes(content[:_MAX_NUMBER_BYTES])
    elif element == _CODEC:
        track.codec = content.rstrip(b"\0")
    elif element == _CODEC_PRIVATE:
        track.head = content
    elif element == _CONTENT_ENCODINGS:
        track.is_encoded = True


def _read_block(content: bytes) -> tuple[int, bytes]:
    """Return the number of a block's track, and its packet."""
    number, at = _read_number(content, 0)
    begins = at + _BLOCK_HEADER_BYTES
    if number is None or len(content) < begins:
        raise AudioError(_DAMAGED)
    if content[begins - 1] & _LACING:
        raise AudioError(
            f"the WebM file has several packets in a block, which is not read; "
            f"{containers.advise()}"
        )
    return number, content[begins:]


def _read_elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield id and content of each element, in the order of the file; those that hold others are
    yielded empty, before what they hold."""
    at = 0
    for _ in range(_MAX_ELEMENTS):
        if at >= len(data):
            return
        element, begins = _read_id(data, at)
        size, begins = _read_number(data, begins)
        if begins > len(data):
            return  # cut short
        if element in _ENTERED:
            yield element, b""
            at = begins
            continue
        if size is None:
            raise AudioError(_DAMAGED)
        at = begins + size
        if at > len(data):
            return
        yield element, data[begins:at]
    raise AudioError(_DAMAGED)


def _read_id(data: bytes, at: int) -> tuple[int, int]:
    """Return an id, marker included, and where it ends."""
    length = 9 - data[at].bit_length()
    if length > 4:
        raise AudioError(_DAMAGED)
    return int.from_bytes(data[at : at + length]), at + length


def _read_number(data: bytes, at: int) -> tuple[int | None, int]:
    """Return a number of variable length, None if it says that it is unknown, and where it ends;
    beyond the data if it is cut short."""
    if at >= len(data):
        return None, len(data) + 1
    length = 9 - data[at].bit_length()
    if length > _MAX_NUMBER_BYTES:
        raise AudioError(_DAMAGED)
    ones = (1 << 7 * length) - 1
    number = int.from_bytes(data[at : at + length]) & ones
    ends = at + length
    return (None if number == ones else number), ends if ends <= len(data) else len(data) + 1
