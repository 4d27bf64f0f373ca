"""Fuzz `service.audio.decoding`, whole and in chunks: only `AudioError` is documented."""

import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from service.audio.codecs import G722, Alaw, Linear16, Mulaw
from service.audio.decoding import AudioFormat, Samples, StreamDecoder, decode
from service.audio.formats import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from service.errors import AudioError
from tests.fuzz import checksums, sound
from tests.fuzz.harness import stateless

RATE = 16_000
MAX_S = 5.0
_LATEST_S = 0.2
_PLAIN = 0
_REPAIR = 0x80
_RATES = (None, 8_000, 16_000, 48_000)
_CHANNELS = (None, 1, 2, 3)
_ENCODINGS = (Linear16, Mulaw, Alaw, G722)
_ODD_RATES = (None, 0, MIN_SAMPLE_RATE - 1, MAX_SAMPLE_RATE + 1, 2**32 - 1, 1)

Repaired = Callable[[bytes], bytes]


def check_file(data: bytes, *, repaired: Repaired) -> None:
    """The first byte of `data` is what the request says of the file, the second how it is cut."""
    said, seed, file = data[:1], data[1:2], data[2:]
    bits = int.from_bytes(said)
    if bits & _REPAIR:
        file = repaired(file)
    fmt = AudioFormat(
        sample_rate=_RATES[bits >> 1 & 3], channels=_CHANNELS[bits >> 3 & 3], channel=bits & 1
    )
    _check(file, fmt, int.from_bytes(seed))


def check_raw(data: bytes) -> None:
    """The first byte of `data` says encoding and channels, two the rate, one how it is cut."""
    bits, rate, seed = data[0:1], data[1:3], data[3:4]
    layout = int.from_bytes(bits)
    fmt = AudioFormat(
        _ENCODINGS[(layout & 3) if layout & 0x40 else layout % 3],
        _raw_rate(int.from_bytes(rate)),
        channels=_CHANNELS[layout >> 2 & 3],
        channel=layout >> 4 & 3,
    )
    _check(data[4:], fmt, int.from_bytes(seed))


def _raw_rate(number: int) -> int | None:
    if number < len(_ODD_RATES):
        return _ODD_RATES[number]
    return MIN_SAMPLE_RATE + number % (MAX_SAMPLE_RATE - MIN_SAMPLE_RATE + 1)


def _check(data: bytes, fmt: AudioFormat, seed: int) -> None:
    whole = _outcome(partial(decode, data, fmt, rate=RATE, max_s=MAX_S))
    in_chunks = _outcome(partial(_streamed, data, fmt, random.Random(seed)))
    if whole is None or in_chunks is None:
        assert whole is in_chunks, "refused whole or in chunks, but not both"
        return
    assert whole.dtype == np.float32
    assert whole.ndim == 1
    assert whole.size <= (MAX_S + _LATEST_S) * RATE
    assert np.isfinite(whole).all()
    assert np.array_equal(whole, in_chunks), "other samples in chunks than whole"


def _outcome(decoded: Callable[[], Samples]) -> Samples | None:
    """None where it is refused, with words."""
    try:
        return decoded()
    except AudioError as refused:
        assert refused.message
        assert refused.field.startswith("audio")
        return None


def _streamed(data: bytes, fmt: AudioFormat, chance: random.Random) -> Samples:
    decoder = StreamDecoder(fmt, rate=RATE, max_s=MAX_S)
    pieces = [*map(decoder.push, _chunks(data, chance)), *decoder.blocks()]
    assert decoder.suspicions.louder_channel in (None, 0, 1)
    return np.concatenate(pieces)


def _chunks(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """Pieces of `data`, some of them empty."""
    at = 0
    while at < len(data):
        size = chance.choice((0, 1, 7, 160, 1_024, 8_192))
        yield data[at : at + size]
        at += size


def _said(files: Iterable[bytes]) -> Iterator[bytes]:
    for seed, file in enumerate(files):
        for bits in (_PLAIN, _REPAIR, _REPAIR | 1):
            yield bytes((bits, seed)) + file


def _raw_seeds() -> Iterator[bytes]:
    samples = (sound.made(0.1, 8_000) * 32_767).astype("<i2").tobytes()
    for layout in range(64):
        yield bytes((layout,)) + (layout * 700).to_bytes(2) + bytes((layout,)) + samples[:801]


HARNESSES = (
    stateless("wav", partial(check_file, repaired=bytes), lambda: _said(sound.wav_files())),
    stateless(
        "flac", partial(check_file, repaired=checksums.flac), lambda: _said(sound.flac_files())
    ),
    stateless("ogg", partial(check_file, repaired=checksums.ogg), lambda: _said(sound.ogg_files())),
    stateless("webm", partial(check_file, repaired=bytes), lambda: _said(sound.webm_files())),
    stateless("mp3", partial(check_file, repaired=bytes), lambda: _said(sound.mp3_files())),
    stateless("raw", check_raw, _raw_seeds),
)
