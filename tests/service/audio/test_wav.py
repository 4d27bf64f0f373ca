"""What recorders and pipes write: the samples are heard whatever length the header announces."""

import io
import itertools
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from service.audio.decoding import AudioFormat, StreamDecoder, decode
from service.errors import AudioError

RATE = 16_000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(3_001) / RATE)).astype(np.float32)
PCM = np.round(TONE * 32_767).astype("<i2").tobytes()
UNKNOWN = 0xFFFF_FFFF
NO_SIZES = b"ds64" + struct.pack("<I", 28) + bytes(28)


def _chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body


FORMAT = _chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
LIST = _chunk(b"LIST", b"INFOISFT\x04\0\0\0abc\0" * 4)


def _riff(*chunks: bytes, size: int | None = None, magic: bytes = b"RIFF") -> bytes:
    return _chunk(magic, b"WAVE" + b"".join(chunks), size)


def _decoded(data: bytes) -> np.ndarray:
    return decode(data, AudioFormat(), rate=RATE, max_s=60)


SAMPLES = _decoded(_riff(FORMAT, _chunk(b"data", PCM)))
HEADERS = {
    "right": _riff(FORMAT, _chunk(b"data", PCM)),
    "0, riff 36": _riff(FORMAT, _chunk(b"data", PCM, 0), size=36),
    "0, riff right": _riff(FORMAT, _chunk(b"data", PCM, 0)),
    "0, riff unknown": _riff(FORMAT, _chunk(b"data", PCM, 0), size=UNKNOWN),
    "unknown": _riff(FORMAT, _chunk(b"data", PCM, UNKNOWN), size=UNKNOWN),
    "just below 2 GiB": _riff(FORMAT, _chunk(b"data", PCM, 0x7FFF_F000)),
    "44 too large": _riff(FORMAT, _chunk(b"data", PCM, len(PCM) + 44)),
    "half": _riff(FORMAT, _chunk(b"data", PCM, len(PCM) // 2)),
    "a kilobyte": _riff(FORMAT, _chunk(b"data", PCM, 1_000)),
    "live RF64": _riff(NO_SIZES, FORMAT, _chunk(b"data", PCM, UNKNOWN), magic=b"RF64"),
    "text before": _riff(FORMAT, LIST, _chunk(b"data", PCM)),
    "text after": _riff(FORMAT, _chunk(b"data", PCM), LIST),
    "text after, RF64": _riff(
        _chunk(b"ds64", struct.pack("<QQQI", 0, len(PCM), 0, 0)),
        FORMAT,
        _chunk(b"data", PCM, UNKNOWN),
        LIST,
        magic=b"RF64",
    ),
    "half a sample more": _riff(FORMAT, _chunk(b"data", PCM + b"\x07")),
}


@pytest.mark.parametrize("name", HEADERS)
def test_the_samples_are_heard_whatever_length_is_announced(name: str) -> None:
    assert SAMPLES.size == TONE.size
    assert np.array_equal(_decoded(HEADERS[name]), SAMPLES)


@pytest.mark.parametrize("name", HEADERS)
@given(cuts=st.lists(st.integers(0, 7_000), max_size=8))
@settings(deadline=None, max_examples=25)
def test_any_chunking_gives_the_same_samples(name: str, cuts: list[int]) -> None:
    data = HEADERS[name]
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    decoder = StreamDecoder(AudioFormat(), rate=RATE, max_s=60)
    pieces = [decoder.push(data[a:b]) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate([*pieces, *decoder.blocks()]), SAMPLES)


@given(kept=st.integers(46, len(PCM) + 44))
@settings(deadline=None)
def test_a_file_that_ends_early_is_heard_to_its_end(kept: int) -> None:
    whole = HEADERS["right"]
    assert np.array_equal(_decoded(whole[:kept]), SAMPLES[: (kept - 44) // 2])


@pytest.mark.parametrize("kept", range(2, 44, 7))
def test_a_file_that_ends_before_its_samples_is_refused(kept: int) -> None:
    with pytest.raises(AudioError):
        _decoded(HEADERS["right"][:kept])


def test_samples_come_out_as_they_go_in() -> None:
    decoder = StreamDecoder(AudioFormat(), rate=RATE, max_s=60)
    data = HEADERS["0, riff unknown"]
    out = sum(decoder.push(data[at : at + 320]).size for at in range(0, len(data), 320))
    assert out == TONE.size


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_riff(_chunk(b"data", PCM)), "no fmt chunk"),
        (_riff(_chunk(b"fmt ", b"\x01\0"), _chunk(b"data", PCM)), "header is damaged"),
        (_riff(_chunk(b"junk", bytes(2**21)), FORMAT), "first megabyte"),
        (_riff(FORMAT, LIST), "before its samples"),
        (_riff(FORMAT[:10] + bytes(2) + FORMAT[12:], _chunk(b"data", PCM)), "no channel"),
        (_riff(_chunk(b"fmt ", FORMAT[8:22] + b"\x0c\0"), b"data"), "codec 0x0001 of 12 bits"),
    ],
)
def test_what_is_no_wav_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        _decoded(data)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_every_sample_is_as_libsndfile_has_it(subtype: str, endian: str) -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(4).uniform(-1, 1, (500, 2))
    soundfile.write(file, noise, RATE, format="WAV", subtype=subtype, endian=endian)
    expected, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    heard = decode(file.getvalue(), AudioFormat(channel=1), rate=RATE, max_s=60)
    assert np.array_equal(heard, expected[:, 1])
