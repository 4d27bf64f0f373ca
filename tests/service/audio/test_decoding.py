import io
import itertools
import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from service.audio.codecs import Alaw, Codec, Linear16, Mulaw
from service.audio.decoding import AudioFormat, StreamDecoder, decode
from service.errors import AudioError

RATE = 16_000
AUTO = AudioFormat()
FILES = [
    ("WAV", "PCM_U8", 1e-2),
    ("WAV", "PCM_16", 1e-4),
    ("WAV", "PCM_24", 1e-6),
    ("WAV", "PCM_32", 1e-6),
    ("WAV", "FLOAT", 1e-7),
    ("WAV", "DOUBLE", 1e-7),
    ("WAV", "ULAW", 2e-2),
    ("WAV", "ALAW", 2e-2),
    ("WAVEX", "PCM_16", 1e-4),
    ("RF64", "PCM_16", 1e-4),
    ("FLAC", "PCM_16", 1e-4),
    ("FLAC", "PCM_24", 1e-6),
]
DAMAGEABLE = [
    ("WAV", "PCM_16"),
    ("RF64", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def _tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("f4")


def _file(samples: np.ndarray, rate: int, kind: str, subtype: str, endian: str = "FILE") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype, endian=endian)
    return out.getvalue()


def _wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    return _file(samples, rate, "WAV", "FLOAT")


def _decoded(data: bytes, fmt: AudioFormat, max_s: float = 60.0) -> np.ndarray:
    return decode(data, fmt, rate=RATE, max_s=max_s)


def _streamed(chunks: list[bytes], fmt: AudioFormat) -> np.ndarray:
    decoder = StreamDecoder(fmt, rate=RATE, max_s=60.0)
    return np.concatenate([*(decoder.push(chunk) for chunk in chunks), *decoder.blocks()])


def _chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize(("kind", "subtype", "error"), FILES)
def test_lossless_files_decode_to_their_samples(kind: str, subtype: str, error: float) -> None:
    tone = _tone(0.2, RATE)
    samples = _decoded(_file(tone, RATE, kind, subtype), AUTO)
    assert samples.dtype == np.float32
    assert samples.shape == tone.shape
    assert np.abs(samples - tone).max() < error


def test_big_endian_wav() -> None:
    tone = _tone(0.2, RATE)
    samples = _decoded(_file(tone, RATE, "WAV", "PCM_16", endian="BIG"), AUTO)
    assert np.abs(samples - tone).max() < 1e-4


def test_ogg_decodes_to_about_its_samples() -> None:
    tone = _tone(1.0, RATE)
    samples = _decoded(_file(tone, RATE, "OGG", "OPUS"), AUTO)
    assert samples.shape == tone.shape
    assert np.corrcoef(samples, tone)[0, 1] > 0.99


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(rate: int) -> None:
    tone = _tone(0.5, rate)
    samples = _decoded(_wav(tone, rate), AUTO)
    assert np.abs(samples - soxr.resample(tone, rate, RATE, "HQ")).max() < 1e-6
    middle = slice(RATE // 10, -RATE // 10)
    assert np.abs(samples - _tone(0.5, RATE)[: samples.size])[middle].max() < 1e-3


def test_channel_is_picked_from_a_two_channel_file() -> None:
    left, right = _tone(0.1, RATE, 300), _tone(0.1, RATE, 500)
    data = _wav(np.stack([left, right], axis=1))
    assert np.array_equal(_decoded(data, AudioFormat(channel=0)), left)
    assert np.array_equal(_decoded(data, AudioFormat(channels=2, channel=1)), right)


def test_linear16_is_little_endian_over_32768() -> None:
    fmt = AudioFormat(Linear16, RATE)
    samples = _decoded(b"\x00\x00\x01\x00\xff\x7f\x00\x80", fmt)
    assert samples.tolist() == [0, 1 / 32768, 32767 / 32768, -1]


@pytest.mark.parametrize(("encoding", "subtype"), [(Mulaw, "ULAW"), (Alaw, "ALAW")])
def test_every_g711_code_is_as_libsndfile_has_it(encoding: type[Codec], subtype: str) -> None:
    codes = bytes(range(256))
    expected, _ = soundfile.read(
        io.BytesIO(codes), format="RAW", subtype=subtype, samplerate=8_000, channels=1
    )
    samples = _decoded(codes, AudioFormat(encoding, RATE))
    assert np.array_equal(samples, expected.astype(np.float32))


@pytest.mark.parametrize("encoding", [Linear16, Mulaw, Alaw])
def test_raw_channels_interleave(encoding: type[Codec]) -> None:
    width = 2 if encoding is Linear16 else 1
    mono = np.random.default_rng(1).bytes(64 * width)
    other = bytes(64 * width)
    frames = zip(*(np.frombuffer(b, f"V{width}") for b in (other, mono)), strict=True)
    stereo = b"".join(sample.tobytes() for frame in frames for sample in frame)
    picked = _decoded(stereo, AudioFormat(encoding, RATE, channels=2, channel=1))
    assert np.array_equal(picked, _decoded(mono, AudioFormat(encoding, RATE)))


@given(
    encoding=st.sampled_from([Linear16, Mulaw, Alaw]),
    rate=st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    channels=st.integers(1, 2),
    frames=st.integers(1, 5_000),
    cuts=st.lists(st.integers(0, 20_000), max_size=12),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_raw_audio_in_any_chunking_decodes_the_same(
    encoding: type[Codec], rate: int, channels: int, frames: int, cuts: list[int], seed: int
) -> None:
    fmt = AudioFormat(encoding, rate, channels, channels - 1)
    width = 2 if encoding is Linear16 else 1
    data = np.random.default_rng(seed).bytes(frames * channels * width)
    assert np.array_equal(_streamed(_chunks(data, cuts), fmt), _decoded(data, fmt))


@given(cuts=st.lists(st.integers(0, 20_000), max_size=12))
@settings(deadline=None, max_examples=20)
def test_files_in_any_chunking_decode_the_same(cuts: list[int]) -> None:
    data = _file(_tone(0.2, 48_000), 48_000, "FLAC", "PCM_16")
    assert np.array_equal(_streamed(_chunks(data, cuts), AUTO), _decoded(data, AUTO))


def test_raw_audio_comes_out_as_it_goes_in() -> None:
    decoder = StreamDecoder(AudioFormat(Mulaw, 8_000), rate=RATE, max_s=10)
    out = sum(decoder.push(bytes(160)).size for _ in range(50))
    assert out > RATE * 0.85


PCM = b"\x00\x01" * 100
WAV = _wav(_tone(0.1, RATE))
RAW = AudioFormat(Linear16, RATE)


@pytest.mark.parametrize(
    ("data", "fmt", "field", "message"),
    [
        (b"", AUTO, "audio", "empty"),
        (b"", RAW, "audio", "empty"),
        (b"RI", AUTO, "audio", "or MP3; for raw audio say its encoding"),
        (PCM, AUTO, "audio", "or MP3; for raw audio say its encoding"),
        (b"OggS" + bytes(100), AUTO, "audio", "damaged"),
        (b"fLaC" + bytes(100), AUTO, "audio", "damaged"),
        (PCM[:1], RAW, "audio", "empty"),
        (
            b"RIFF" + bytes(4) + b"WAVEfmt ",
            RAW,
            "audio_config.encoding",
            r"a file \(WAV\), not raw",
        ),
        (b"OggS\0" + PCM, RAW, "audio_config.encoding", "say AUDIO_ENCODING_FILE"),
        (b"#!AMR\n" + PCM, RAW, "audio_config.encoding", r"a file \(AMR\)"),
        (
            PCM,
            AudioFormat(Linear16, RATE, 2),
            "audio_config.channel",
            "holds the speaker, 0 or 1",
        ),
        (PCM, AudioFormat(Mulaw), "audio_config.sample_rate_hertz", "needs its sample rate"),
        (PCM, AudioFormat(Alaw, 7_999), "audio_config.sample_rate_hertz", "outside 8000..48000"),
        (PCM, AudioFormat(Alaw, 48_001), "audio_config.sample_rate_hertz", "outside 8000..48000"),
        (PCM, AudioFormat(Alaw, RATE, 3), "audio_config.channels", "3 channels"),
        (PCM, AudioFormat(Alaw, RATE, 0), "audio_config.channels", "0 channels"),
        (PCM, AudioFormat(Alaw, RATE, 2, 2), "audio_config.channel", "channel 2 does not"),
        (PCM, AudioFormat(Alaw, RATE, 1, -1), "audio_config.channel", "channel -1 does not"),
        (WAV, AudioFormat(channel=1), "audio_config.channel", "channel 1 does not exist"),
        (WAV, AudioFormat(sample_rate=8_000), "audio_config.sample_rate_hertz", "says 16000 Hz"),
        (WAV, AudioFormat(channels=2), "audio_config.channels", "says 1 channel"),
        (_wav(np.zeros((9, 3), "f4")), AUTO, "audio_config.channels", "3 channels"),
        (
            _wav(_tone(0.1, 96_000), 96_000),
            AUTO,
            "audio_config.sample_rate_hertz",
            "96000 Hz is outside",
        ),
        (_wav(np.zeros(0, "f4")), AUTO, "audio", "empty"),
        (_wav(np.zeros((9, 2), "f4")), AUTO, "audio_config.channel", "holds the speaker, 0 or 1"),
        (_wav(np.array([0, np.nan], "f4")), AUTO, "audio", "NaN or infinite"),
        (_wav(np.array([0, -np.inf], "f4")), AUTO, "audio", "NaN or infinite"),
        (_wav(np.array([0, -20_000], "f4")), AUTO, "audio", "scale them"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(
    data: bytes, fmt: AudioFormat, field: str, message: str
) -> None:
    with pytest.raises(AudioError, match=message) as refused:
        _decoded(data, fmt)
    assert refused.value.field == field


def test_mp3_decodes_to_about_its_samples() -> None:
    tone = _tone(2.0, RATE)
    samples = _decoded(_file(tone, RATE, "MP3", "MPEG_LAYER_III"), AUTO)
    assert samples.size == pytest.approx(tone.size, abs=0.2 * RATE)
    spectrum = np.abs(np.fft.rfft(samples[:RATE]))
    assert np.argmax(spectrum) == 440


OTHERS = {
    "WebM": b"\x1a\x45\xdf\xa3" + bytes(30),
    "MP4": b"\0\0\0\x20ftypM4A " + bytes(30),
    "AMR": b"#!AMR\n" + bytes(30),
    "AU": _file(_tone(0.5, RATE), RATE, "AU", "PCM_16"),
    "AAC": b"\xff\xf1\x60\x40\x1b\x7f" + bytes(30),
    "AIFF": _file(_tone(0.5, RATE), RATE, "AIFF", "PCM_16"),
    "Wave64": _file(_tone(0.5, RATE), RATE, "W64", "PCM_16"),
    "CAF": _file(_tone(0.5, RATE), RATE, "CAF", "PCM_16"),
    "IMA ADPCM in WAV": _file(_tone(0.5, RATE), RATE, "WAV", "IMA_ADPCM"),
    "GSM 6.10 in WAV": _file(_tone(0.5, RATE), RATE, "WAV", "GSM610"),
    "something else than Opus": _file(_tone(0.5, RATE), RATE, "OGG", "VORBIS"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_named_with_the_line_that_converts_them(name: str) -> None:
    with pytest.raises(AudioError, match=f"{name}.*ffmpeg -i INPUT"):
        _decoded(OTHERS[name], AUTO)


def test_stream_of_no_audio_is_refused_at_once() -> None:
    decoder = StreamDecoder(AUTO, rate=RATE, max_s=10)
    with pytest.raises(AudioError, match="not WAV"):
        decoder.push(bytes(320))


@pytest.mark.parametrize(("encoding", "width"), [(Linear16, 2), (Mulaw, 1)])
def test_half_a_frame_at_the_end_is_dropped(encoding: type[Codec], width: int) -> None:
    fmt = AudioFormat(encoding, RATE, 2, 0)
    whole = np.random.default_rng(2).bytes(100 * 2 * width)
    for extra in range(2 * width):
        assert np.array_equal(_decoded(whole + bytes(extra), fmt), _decoded(whole, fmt))


def test_a_flac_is_decoded_block_by_block() -> None:
    decoder = StreamDecoder(AUTO, rate=RATE, max_s=300)
    decoder.push(_file(np.zeros(200 * RATE, "i2"), RATE, "FLAC", "PCM_16"))
    sizes = [block.size for block in decoder.blocks()]
    assert sum(sizes) == 200 * RATE
    assert max(sizes) <= 65_536


@pytest.mark.parametrize("channel", [0, 1])
def test_the_louder_of_two_channels_is_known(channel: int) -> None:
    tones = np.stack([_tone(0.1, RATE, 300), 0.1 * _tone(0.1, RATE, 500)], axis=1)
    decoder = StreamDecoder(AudioFormat(channel=channel), rate=RATE, max_s=10)
    decoder.push(_wav(tones))
    assert decoder.suspicions.louder_channel == (0 if channel else None)


@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_flac_cut_short_anywhere_is_refused(data: st.DataObject) -> None:
    whole = _file(_tone(0.5, RATE), RATE, "FLAC", "PCM_16")
    kept = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(AudioError):
        _decoded(whole[:kept], AUTO)


def _flac_with_length(data: bytes, frames: int) -> bytes:
    """Overwrite the 36-bit count of samples in STREAMINFO (RFC 9639, section 8.2)."""
    changed = bytearray(data)
    changed[21] = (changed[21] & 0xF0) | frames >> 32
    changed[22:26] = (frames & 0xFFFF_FFFF).to_bytes(4, "big")
    return bytes(changed)


def test_flac_written_to_a_pipe_is_read_to_its_end() -> None:
    tone = _tone(5.0, RATE)
    data = _flac_with_length(_file(tone, RATE, "FLAC", "PCM_16"), 0)
    assert _decoded(data, AUTO).shape == tone.shape


def test_flac_that_announces_more_than_it_holds_is_refused() -> None:
    data = _flac_with_length(_file(_tone(0.5, RATE), RATE, "FLAC", "PCM_16"), 2**36 - 1)
    with pytest.raises(AudioError, match="cut short"):
        _decoded(data, AUTO)


@pytest.mark.parametrize("fmt", [AUTO, RAW])
def test_limit_is_exact(fmt: AudioFormat) -> None:
    samples = np.zeros(RATE + 1, "<i2")
    for count, fits in ((RATE, True), (RATE + 1, False)):
        raw = samples[:count].tobytes()
        data = raw if fmt is RAW else _file(samples[:count], RATE, "WAV", "PCM_16")
        if fits:
            assert _decoded(data, fmt, max_s=1.0).size == RATE
        else:
            with pytest.raises(AudioError, match="longer than the limit of 1 s"):
                _decoded(data, fmt, max_s=1.0)


def test_limit_holds_over_a_stream() -> None:
    decoder = StreamDecoder(AudioFormat(Mulaw, 8_000), rate=RATE, max_s=1.0)
    for _ in range(50):
        decoder.push(bytes(160))
    with pytest.raises(AudioError, match="longer than the limit"):
        decoder.push(bytes(1))


@pytest.mark.parametrize("announced", [None, 0, 2**36 - 1])
def test_decompression_bomb_is_not_decoded(announced: int | None) -> None:
    bomb = _file(np.zeros(48_000 * 300, "i2"), 48_000, "FLAC", "PCM_16")
    if announced is not None:
        bomb = _flac_with_length(bomb, announced)
    tracemalloc.start()
    try:
        with pytest.raises(AudioError):
            _decoded(bomb, AUTO, max_s=2.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**22


def test_stream_of_an_endless_file_is_not_held() -> None:
    decoder = StreamDecoder(AUTO, rate=RATE, max_s=1.0)
    decoder.push(_file(_tone(0.1, RATE), RATE, "FLAC", "PCM_16"))
    with pytest.raises(AudioError, match="larger than 1 s"):
        for _ in range(100):
            decoder.push(bytes(2**16))


@pytest.mark.parametrize(("kind", "subtype"), DAMAGEABLE)
@given(changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
@settings(deadline=None, max_examples=60)
def test_damaged_file_is_decoded_or_refused(
    kind: str, subtype: str, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(_file(_tone(0.1, RATE), RATE, kind, subtype))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        assert np.isfinite(_decoded(bytes(data), AUTO, max_s=5.0)).all()
    except AudioError as refused:
        assert refused.message


@given(
    magic=st.sampled_from([b"", b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS\0", b"ID3\4"]),
    rest=st.binary(),
)
@settings(deadline=None)
def test_arbitrary_bytes_are_decoded_or_refused(magic: bytes, rest: bytes) -> None:
    try:
        assert np.isfinite(_decoded(magic + rest, AUTO, max_s=5.0)).all()
    except AudioError as refused:
        assert refused.message
