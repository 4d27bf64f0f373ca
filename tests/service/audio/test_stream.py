"""Bytes in, windows and quality out: no event loop, no thread."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from service.audio.codecs import Linear16, Mulaw
from service.audio.decoding import StreamDecoder, decode
from service.audio.formats import AudioFormat
from service.audio.speech import VoiceActivity, extract
from service.audio.stream import AudioStream, DecodedAudio, Windows
from service.audio.windows import cut
from service.contract import Contract
from service.errors import AudioError
from tests.support import voices

Samples = NDArray[np.float32]

RATE = 16_000
CONTRACT = Contract(
    model_id="any",
    sample_rate=RATE,
    window_samples=2 * RATE,
    hop_samples=RATE,
    min_speech_samples=RATE,
    dimension=4,
    short_windows=(RATE,),
)
TELEPHONE = AudioFormat(Mulaw, 8_000)
CLIP: Path = voices.clips("slt", "verify")[0]


def encode(container: str, subtype: str, rate: int = RATE) -> bytes:
    samples, recorded_hz = soundfile.read(CLIP, dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, samples[:: recorded_hz // rate], rate, subtype, format=container)
    return file.getvalue()


AUDIO = {
    "raw mu-law": (encode("RAW", "ULAW", 8_000), TELEPHONE),
    "raw linear": (encode("RAW", "PCM_16"), AudioFormat(Linear16, RATE)),
    "WAV": (encode("WAV", "PCM_16"), AudioFormat()),
    "FLAC": (encode("FLAC", "PCM_16"), AudioFormat()),
}


def opened(vad: VoiceActivity, fmt: AudioFormat, *, halves: bool = False) -> AudioStream:
    decoder = StreamDecoder(fmt, rate=RATE, max_s=60)
    return AudioStream(decoder, vad, CONTRACT, halves=halves)


def pushed(stream: AudioStream, audio: bytes, size: int) -> Windows:
    """The windows of all of the audio, in pieces of so many bytes."""
    windows = Windows([], [])
    pieces = [audio[start : start + size] for start in range(0, len(audio), size)]
    for found in [*map(stream.push, pieces), stream.finish()]:
        windows.whole.extend(found.whole)
        windows.halves.extend(found.halves)
    return windows


@pytest.mark.parametrize("name", AUDIO)
@pytest.mark.parametrize("size", [997, 1_600, 1 << 20])
def test_pieces_give_what_the_whole_gives(vad: VoiceActivity, name: str, size: int) -> None:
    audio, fmt = AUDIO[name]
    whole, in_pieces = opened(vad, fmt, halves=True), opened(vad, fmt, halves=True)
    expected, found = whole.finish(audio), pushed(in_pieces, audio, size)
    assert len(expected.whole) > 1
    assert len(expected.halves) > 1
    for left, right in zip(
        expected.whole + expected.halves, found.whole + found.halves, strict=True
    ):
        assert np.array_equal(left, right)
    assert in_pieces.quality == whole.quality


@pytest.mark.parametrize("name", AUDIO)
def test_windows_are_those_of_the_parts_one_after_the_other(vad: VoiceActivity, name: str) -> None:
    audio, fmt = AUDIO[name]
    speech = extract(vad, decode(audio, fmt, rate=RATE, max_s=60))
    stream = opened(vad, fmt)
    found = stream.finish(audio)
    expected = cut(speech.samples, window_samples=2 * RATE, hop_samples=RATE)
    assert np.array_equal(np.stack(found.whole), expected)
    assert stream.quality == speech.quality
    assert stream.total_s == speech.quality.total_s
    assert stream.net_speech_s == speech.quality.net_speech_s


def test_short_speech_fills_a_short_window(vad: VoiceActivity) -> None:
    samples = decode(*AUDIO["WAV"], rate=RATE, max_s=60)
    stream = AudioStream(DecodedAudio(), vad, CONTRACT)
    for start in itertools.count(0, 800):
        stream.push(samples[start : start + 800])
        if stream.net_speech_s > 1.2:
            break
    assert {window.size for window in stream.cut_last_windows()} == {RATE}
    assert {window.size for window in stream.finish().whole} == {RATE}


def test_too_little_speech_gives_no_window(vad: VoiceActivity) -> None:
    stream = opened(vad, TELEPHONE)
    assert stream.finish(b"\xff" * 8_000).whole == []
    assert stream.total_s == 1.0


@pytest.mark.parametrize(
    ("fmt", "beginning", "least", "most"),
    [
        (TELEPHONE, b"\xff" * 15, 1, 1),  # it may still turn out to be a file
        (TELEPHONE, b"\xff" * 16, 800, 800),
        (AudioFormat(Linear16, 48_000, 2, 0), bytes(16), 19_200, 19_200),
        (AudioFormat(), b"", 1, 1),
        (AudioFormat(), AUDIO["WAV"][0][:40], 1, 1),
        (AudioFormat(), AUDIO["WAV"][0][:200], 3_200, 3_200),
        (AudioFormat(), AUDIO["FLAC"][0][:200], 15 * 1024, 1 << 20),  # only stored until the end
    ],
)
def test_a_block_is_100_ms_once_the_audio_is_known(
    vad: VoiceActivity, fmt: AudioFormat, beginning: bytes, least: int, most: int
) -> None:
    stream = opened(vad, fmt)
    stream.push(beginning)
    assert least <= stream.block_bytes <= most


def test_a_file_that_is_declared_raw_is_refused_at_its_first_bytes(vad: VoiceActivity) -> None:
    stream = opened(vad, TELEPHONE)
    with pytest.raises(AudioError, match="a file"):
        stream.push(AUDIO["FLAC"][0][:4])


def test_what_the_decoder_suspects_is_part_of_the_quality(vad: VoiceActivity) -> None:
    stream = opened(vad, TELEPHONE)
    stream.finish(encode("RAW", "ALAW", 8_000))
    assert "looks like ALAW" in stream.quality.suspicions.implausible
