"""How recordings are read, and a stream's chunks become messages."""

from pathlib import Path

import pytest
from sayso import RawAudio
from sayso.recordings import MAX_CHUNK_BYTES, MESSAGE_S, Collector, read_recording

FRAME = bytes(160)  # 20 ms of mu-law


def collect(chunks: list[bytes], raw: RawAudio | None, message_s: float) -> list[bytes]:
    collector = Collector(raw, message_s)
    return [*(audio for chunk in chunks for audio in collector.add(chunk)), *collector.rest()]


def sizes(chunks: list[bytes], raw: RawAudio | None, message_s: float = MESSAGE_S) -> list[int]:
    return [len(message) for message in collect(chunks, raw, message_s)]


@pytest.mark.parametrize(
    ("raw", "chunk", "expected"),
    [
        (RawAudio("MULAW", 8_000), 160, [160, 800, 800, 480]),
        (RawAudio("ALAW", 8_000, channels=2), 320, [320, 1_600, 1_600, 960]),
        (RawAudio("LINEAR16", 16_000), 640, [640, 3_200, 3_200, 1_920]),
        (RawAudio("MULAW", 8_000), 4_000, [4_000] * 14),
        (None, 160, [160] * 14),  # a file: nobody knows how long a chunk is
    ],
)
def test_small_chunks_are_joined_to_100_ms_but_for_the_first(
    raw: RawAudio | None, chunk: int, expected: list[int]
) -> None:
    assert sizes([bytes(chunk)] * 14, raw) == expected


def test_chunks_go_as_they_come_if_asked_for() -> None:
    assert sizes([FRAME] * 4, RawAudio("MULAW", 8_000), message_s=0) == [160] * 4


def test_no_byte_is_lost_or_moved() -> None:
    chunks = [bytes([number] * (number % 7)) for number in range(200)]
    joined = b"".join(collect(chunks, RawAudio("MULAW", 8_000), 0.01))
    assert joined == b"".join(chunks)


def test_no_message_is_larger_than_a_server_takes() -> None:
    assert sizes([bytes(40_000)], None) == [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, 9_280]


def test_a_recording_is_bytes_a_path_or_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "alice.wav"
    path.write_bytes(b"RIFF")
    with path.open("rb") as file:
        for recording in (b"RIFF", path, str(path), file):
            assert read_recording(recording) == b"RIFF"
