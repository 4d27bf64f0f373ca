"""Ogg Opus as it comes: in chains, with packets lost, and with any rate in its header."""

import io
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from service.audio.decoding import AudioFormat, decode
from service.errors import AudioError
from tests.fuzz import checksums

RATE = 16_000
HEAD_RATE = slice(12, 16)


def _tone(hertz: float, seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)


def _opus(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="OGG", subtype="OPUS")
    return file.getvalue()


def _decoded(data: bytes, max_s: float = 60) -> np.ndarray:
    return decode(data, AudioFormat(), rate=RATE, max_s=max_s)


def _pages(data: bytes) -> list[bytes]:
    return [b"OggS" + rest for rest in data.split(b"OggS")[1:]]


def _without(data: bytes, lost: int) -> bytes:
    """Without one page, those after it renumbered."""
    pages = _pages(data)
    del pages[lost]
    numbered = [
        page[:18] + struct.pack("<I", number) + page[22:] for number, page in enumerate(pages)
    ]
    return checksums.ogg(b"".join(numbered))


def _loudest_hz(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * RATE / samples.size)


def test_every_stream_of_a_chain_is_heard() -> None:
    heard = _decoded(_opus(_tone(300, 2.0)) + _opus(_tone(500, 1.0)) + _opus(_tone(700, 1.0)))
    assert heard.size == 4 * RATE
    found = [_loudest_hz(heard[int(s * RATE) :][:8_000]) for s in (0.5, 2.25, 3.25)]
    assert found == [300, 500, 700]


def test_equal_streams_make_a_chain_too() -> None:
    assert _decoded(_opus(_tone(300, 1.0)) * 3).size == 3 * RATE


@pytest.mark.parametrize("lost", [4, 6])
def test_what_is_lost_is_concealed(lost: int) -> None:
    tone = _tone(300, 8.0)
    whole = _opus(tone)
    assert len(_pages(whole)) > 8
    heard = _decoded(_without(whole, lost))
    assert heard.size == tone.size
    start = int((lost - 0.5) * RATE)
    assert np.corrcoef(heard[-RATE:], tone[-RATE:])[0, 1] > 0.99, start


def test_the_last_page_may_be_cut_short() -> None:
    whole = _opus(_tone(300, 3.0))
    heard = _decoded(whole[:-10])
    assert RATE < heard.size < 3 * RATE
    assert np.allclose(heard[: RATE // 2], _decoded(whole)[: RATE // 2], atol=1e-3)


@pytest.mark.parametrize("rate", [0, 8_000, 12_000, 44_100, 2**32 - 1])
def test_the_rate_in_the_header_changes_nothing(rate: int) -> None:
    data = _opus(_tone(6_000, 1.0))
    at = data.index(b"OpusHead")
    changed = data[: at + 12] + rate.to_bytes(4, "little") + data[at + 16 :]
    heard = _decoded(checksums.ogg(changed))
    assert np.array_equal(heard, _decoded(data))
    assert _loudest_hz(heard) == pytest.approx(6_000, abs=2)


def test_streams_side_by_side_are_refused() -> None:
    one, other = _pages(_opus(_tone(300, 1.0))), _pages(_opus(_tone(500, 1.0)))
    other = [page[:14] + b"abcd" + page[18:] for page in other]
    mixed = checksums.ogg(b"".join([one[0], other[0], *one[1:], *other[1:]]))
    with pytest.raises(AudioError, match="more than one stream"):
        _decoded(mixed)


def test_damage_is_refused() -> None:
    data = bytearray(_opus(_tone(300, 2.0)))
    data[len(data) // 2] ^= 1
    with pytest.raises(AudioError, match="damaged"):
        _decoded(bytes(data))


def test_a_chain_is_no_longer_than_the_limit() -> None:
    with pytest.raises(AudioError, match="longer than the limit of 2 s"):
        _decoded(_opus(_tone(300, 1.0)) * 4, max_s=2)


def test_chains_of_nothing_end() -> None:
    head = _pages(_opus(_tone(300, 1.0)))[0]
    with pytest.raises(AudioError, match="longer than the limit"):
        _decoded(head * 20_000)


def _ffmpeg(source: Path, to: Path, *options: str) -> bytes:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("needs ffmpeg")
    subprocess.run([ffmpeg, "-v", "error", "-i", source, *options, to], check=True)
    return to.read_bytes()


def test_a_lost_packet_of_a_live_stream_is_concealed(tmp_path: Path) -> None:
    """A page holds one packet of 20 ms, as in a stream that is sent as it is recorded."""
    source = tmp_path / "tone.wav"
    soundfile.write(source, _tone(300, 6.0), RATE)
    whole = _ffmpeg(source, tmp_path / "o.opus", "-c:a", "libopus", "-page_duration", "20000")
    heard, expected = _decoded(_without(whole, 200)), _decoded(whole)
    assert heard.size == expected.size
    assert np.corrcoef(heard, expected)[0, 1] > 0.99
