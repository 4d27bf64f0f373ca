"""Speech at half or twice its sample rate is noticed, and nothing else is taken for it."""

import numpy as np
import pytest
import soundfile
import soxr

from service.audio import pace
from service.audio.codecs import Linear16
from service.audio.decoding import StreamDecoder
from service.audio.formats import AudioFormat
from service.audio.speech import VoiceActivity, extract
from service.audio.stream import AudioStream
from service.contract import Contract
from tests.support import voices

WHO = ("awb", "kal", "rms", "slt")
RATE = 16_000
CONTRACT = Contract("any", RATE, 3 * RATE, RATE, RATE // 2, 4)

Samples = np.ndarray


def _spoken(who: str) -> Samples:
    """All that the demo has of a speaker, at 16 kHz."""
    read = [soundfile.read(path, dtype="float32") for path in voices.clips(who, "")]
    return np.concatenate([soxr.resample(samples, rate, RATE) for samples, rate in read])


def _verdict(vad: VoiceActivity, samples: Samples, is_: int, declared: int) -> str:
    """Of the speech in `samples` at 16 kHz, sent at the rate `is_` and declared as another."""
    sent = soxr.resample(samples, RATE, is_)
    return pace.judge_rate(extract(vad, soxr.resample(sent, declared, RATE)).samples)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_a_right_rate_is_not_doubted(vad: VoiceActivity, who: str, rate: int) -> None:
    assert _verdict(vad, _spoken(who), rate, rate) == ""


@pytest.mark.parametrize("who", WHO)
def test_half_the_rate_is_noticed(vad: VoiceActivity, who: str) -> None:
    assert "higher than declared" in _verdict(vad, _spoken(who), 16_000, 8_000)


@pytest.mark.parametrize("who", WHO)
def test_twice_the_rate_is_noticed(vad: VoiceActivity, who: str) -> None:
    assert "lower than declared" in _verdict(vad, _spoken(who), 8_000, 16_000)


def test_less_speech_than_it_needs_is_not_judged(vad: VoiceActivity) -> None:
    slow = soxr.resample(_spoken("slt"), 8_000, RATE)
    speech = extract(vad, slow).samples
    assert pace.judge_rate(speech[: pace.SPEECH_SAMPLES])
    assert pace.judge_rate(speech[: pace.SPEECH_SAMPLES - 1]) == ""


@pytest.mark.parametrize("gain", [1e-3, 1.0])
def test_the_level_does_not_matter(vad: VoiceActivity, gain: float) -> None:
    speech = extract(vad, _spoken("awb")).samples
    expected = pace.compute_features(speech)
    np.testing.assert_allclose(pace.compute_features(gain * speech), expected, atol=0.02)


@pytest.mark.parametrize("who", WHO)
def test_a_stream_at_the_wrong_rate_is_suspicious_from_its_first_window(
    vad: VoiceActivity, who: str
) -> None:
    stream = _stream(vad, 8_000)
    sent = (_spoken(who) * 32_767).astype("<i2").tobytes()
    found = False
    for at in range(0, len(sent), 3_201):
        windows = stream.push(sent[at : at + 3_201])
        found = found or bool(windows.whole)
        assert bool(stream.quality.suspicions.implausible) == found
    assert found


def test_what_was_noticed_before_stays(vad: VoiceActivity) -> None:
    """Bytes in the wrong order are no speech, at whatever rate."""
    stream = _stream(vad, RATE)
    stream.push((_spoken("slt") * 32_767).astype(">i2").tobytes())
    assert "high byte first" in stream.quality.suspicions.implausible


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_not_doubted(vad: VoiceActivity, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.05, 5 * RATE)
    stream = _stream(vad, RATE)
    stream.push((noise * 32_767).astype("<i2").tobytes())
    assert stream.quality.suspicions.implausible == ""


def _stream(vad: VoiceActivity, declared: int) -> AudioStream:
    decoder = StreamDecoder(AudioFormat(Linear16, declared), rate=RATE, max_s=120)
    return AudioStream(decoder, vad, CONTRACT)
