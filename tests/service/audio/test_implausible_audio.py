"""Raw audio that is declared as something else is told from what it is declared as."""

import numpy as np
import pytest
import soundfile
import soxr

from service.audio import g711
from service.audio.codecs import Alaw, Codec, Linear16, Mulaw
from service.audio.decoding import AudioFormat, StreamDecoder
from tests.support import voices

CLIPS = [path for who in ("awb", "kal", "rms", "slt") for path in voices.clips(who, "")]
LINEAR16, MULAW, ALAW = Linear16, Mulaw, Alaw


def _g711(samples: np.ndarray, encoding: type[Codec]) -> bytes:
    """The nearest code of each sample."""
    decode = g711.decode_mulaw if encoding is MULAW else g711.decode_alaw
    table = decode(bytes(range(256)))
    order = np.argsort(table, kind="stable")
    between = (table[order][1:] + table[order][:-1]) / 2
    return order[np.searchsorted(between, samples)].astype(np.uint8).tobytes()


def _encodings(samples: np.ndarray) -> dict[str, bytes]:
    linear = np.round(np.clip(samples, -1, 1) * 32_767).astype("<i2")
    return {
        "LINEAR16": linear.tobytes(),
        "big-endian": linear.byteswap().tobytes(),
        "an odd byte first": linear.tobytes()[1:],
        "MULAW": _g711(samples, MULAW),
        "ALAW": _g711(samples, ALAW),
    }


@pytest.fixture(scope="module")
def speech() -> list[dict[str, bytes]]:
    """Every recording of the demo in every encoding, at 8 kHz."""
    read = [soundfile.read(path, dtype="float32") for path in CLIPS]
    return [_encodings(soxr.resample(samples, rate, 8_000)) for samples, rate in read]


def _verdict(data: bytes, declared: type[Codec], channels: int = 1) -> str:
    fmt = AudioFormat(declared, 8_000, channels, 0)
    decoder = StreamDecoder(fmt, rate=16_000, max_s=60)
    for at in range(0, len(data), 321):
        decoder.push(data[at : at + 321])
    return decoder.suspicions.implausible


@pytest.mark.parametrize("declared", [LINEAR16, MULAW, ALAW])
@pytest.mark.parametrize("gain", [1.0, 0.03])
def test_what_is_declared_right_is_never_doubted(
    speech: list[dict[str, bytes]], declared: type[Codec], gain: float
) -> None:
    for recording in speech:
        linear = np.frombuffer(recording["LINEAR16"], "<i2") / 32_768 * gain
        assert _verdict(_encodings(linear)[declared.name], declared) == ""


@pytest.mark.parametrize(
    ("is_", "declared"),
    [
        ("ALAW", MULAW),
        ("MULAW", ALAW),
        ("MULAW", LINEAR16),
        ("LINEAR16", MULAW),
        ("LINEAR16", ALAW),
        ("big-endian", LINEAR16),
        ("an odd byte first", LINEAR16),
    ],
)
def test_what_is_declared_wrong_is_named(
    speech: list[dict[str, bytes]], is_: str, declared: type[Codec]
) -> None:
    verdicts = [_verdict(recording[is_], declared) for recording in speech]
    named = {"big-endian": "high byte first", "an odd byte first": ""}.get(is_, is_)
    assert sum(named in verdict for verdict in verdicts if verdict) >= 0.9 * len(speech)


@pytest.mark.parametrize("declared", [LINEAR16, MULAW, ALAW])
@pytest.mark.parametrize("seed", range(5))
def test_noise_and_silence_are_not_doubted(declared: type[Codec], seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.05, 16_000)
    for samples in (noise, np.zeros(16_000)):
        assert _verdict(_encodings(samples)[declared.name], declared) == ""


def test_one_of_two_channels_is_judged(speech: list[dict[str, bytes]]) -> None:
    for recording in speech:
        left = np.frombuffer(recording["MULAW"], np.uint8)
        other = np.random.default_rng(0).integers(0, 256, left.size, np.uint8)
        both = np.stack([left, other], axis=1).tobytes()
        assert _verdict(both, MULAW, channels=2) == ""
        assert "MULAW" in _verdict(both, ALAW, channels=2)
