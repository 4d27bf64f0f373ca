"""Channels and conditions: the same for the same seed, name and side, and as strong as they say."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.degrade import channels, codecs, conditions, impairments
from evaluation.degrade.channels import CrossChannel, Kind
from evaluation.degrade.conditions import Condition, Degradation
from evaluation.degrade.impairments import Impaired
from evaluation.errors import EvaluationError
from service.audio import decoding
from service.audio.codecs import Mulaw
from service.audio.speech import VoiceActivity, extract

RATE = 16_000
CLIP = Path(__file__).parents[3] / "demo" / "audio" / "slt" / "enroll-1.flac"
Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def speech() -> Samples:
    return decoding.decode(CLIP.read_bytes(), decoding.AudioFormat(), rate=RATE, max_s=60)


@pytest.fixture(scope="module")
def vad() -> VoiceActivity:
    return VoiceActivity.open()


@pytest.mark.parametrize(
    "kind", [channels.ANY, channels.CLEAN, channels.TELEPHONE, channels.NOISY], ids=lambda k: k.name
)
def test_a_channel_depends_on_seed_side_and_name_alone(speech: Samples, kind: Kind) -> None:
    kind = replace(kind, codecs=tuple(name for name in kind.codecs if name != "opus"))

    def heard(seed: int, side: str, name: str) -> Samples:
        return CrossChannel(seed, side, kind)(name, speech, RATE)

    first = heard(0, "enrol", "a")
    assert first.dtype == np.float32
    assert first.shape == speech.shape
    assert np.abs(first).max() <= 1
    assert np.array_equal(first, heard(0, "enrol", "a"))
    for other in (heard(0, "test", "a"), heard(1, "enrol", "a"), heard(0, "enrol", "b")):
        assert not np.array_equal(first, other)


def test_telephone_channels_are_narrow_and_noisy_ones_noisier(speech: Samples) -> None:
    def above_4_khz(samples: Samples) -> float:
        power = np.abs(np.fft.rfft(samples)) ** 2
        return float(power[len(power) * 5 // 8 :].sum() / power.sum())

    names = [str(number) for number in range(6)]
    narrow = [CrossChannel(0, "test", channels.TELEPHONE)(name, speech, RATE) for name in names]
    wide = [CrossChannel(0, "test", channels.CLEAN)(name, speech, RATE) for name in names]
    assert max(map(above_4_khz, narrow)) < 1e-4 < min(map(above_4_khz, wide))
    assert channels.NOISY.snr_db[1] <= channels.TELEPHONE.snr_db[0] < channels.CLEAN.snr_db[0]


@pytest.mark.parametrize("snr_db", [20.0, 5.0])
def test_noise_is_as_loud_as_asked_for(speech: Samples, snr_db: float) -> None:
    for added in (channels.add_noise, channels.add_speech_shaped_noise):
        heard = added(speech, RATE, snr_db=snr_db, rng=np.random.default_rng(0))
        noise_power = np.mean((heard - speech).astype(float) ** 2)
        found_db = 10 * np.log10(channels.measure_active_power(speech, RATE) / noise_power)
        assert found_db == pytest.approx(snr_db, abs=0.1)


def test_narrow_band_and_level(speech: Samples) -> None:
    spectrum = np.abs(np.fft.rfft(channels.narrow_band(speech, RATE))) ** 2
    assert spectrum[len(spectrum) * 5 // 8 :].sum() < 1e-4 * spectrum.sum()
    assert np.abs(channels.set_peak(speech, -6.0)).max() == pytest.approx(10 ** (-0.3), rel=1e-5)
    assert np.array_equal(channels.set_peak(np.zeros(4, np.float32), -6.0), np.zeros(4))


def test_a_room_keeps_the_direct_sound(speech: Samples) -> None:
    heard = channels.add_room(speech, RATE, rt60_s=0.4, rng=np.random.default_rng(0))
    assert heard.shape == speech.shape
    assert 0.4 < np.corrcoef(speech, heard)[0, 1] < 0.99


@pytest.mark.parametrize("name", [name for name in codecs.list_available() if name != "none"])
def test_codecs_degrade_and_keep_the_length(speech: Samples, name: str) -> None:
    piece = speech[: 2 * RATE]
    heard = codecs.apply(name, piece, RATE, np.random.default_rng(0))
    assert heard.dtype == np.float32
    assert heard.shape == piece.shape
    assert 0.6 < np.corrcoef(piece, heard)[0, 1] < 0.9999
    again = codecs.apply(name, piece, RATE, np.random.default_rng(0))
    assert np.array_equal(heard, again)


def test_mu_law_codes_are_those_of_the_standard() -> None:
    narrow = np.sin(np.arange(800) / 5).astype(np.float32)
    heard = codecs.mu_law(narrow, codecs.TELEPHONE_HZ, np.random.default_rng(0))
    codes = decoding.decode(
        bytes(range(256)),
        decoding.AudioFormat(Mulaw, 8000),
        rate=8000,
        max_s=1,
    )
    assert set(heard.tolist()) <= set(codes.tolist())
    nearest = [min(set(codes.tolist()), key=lambda code: abs(code - x)) for x in narrow.tolist()]
    assert np.abs(heard - narrow).max() == pytest.approx(np.abs(nearest - narrow).max())


def test_lost_packets_come_at_the_rate_and_are_concealed() -> None:
    steady = np.ones(200 * RATE, np.float32)
    heard = codecs.lose_packets(steady, RATE, np.random.default_rng(0))
    lost = np.mean(heard[:: int(codecs.LOSS_FRAME_S * RATE)] < 1)
    assert 0.03 < lost < 0.07
    assert heard.min() > 0


def test_an_unknown_codec_is_an_error(speech: Samples) -> None:
    with pytest.raises(EvaluationError, match="not available"):
        codecs.apply("vocoder", speech, RATE, np.random.default_rng(0))


def test_shortened_to_net_speech(speech: Samples, vad: VoiceActivity) -> None:
    whole_s = extract(vad, speech).quality.net_speech_s
    short = conditions.shorten(vad, speech, RATE, speech_s=2.0)
    assert 1.9 <= extract(vad, short).quality.net_speech_s <= 2.6 < whole_s
    assert np.array_equal(short, speech[: len(short)])
    assert np.array_equal(conditions.shorten(vad, speech, RATE, speech_s=1000), speech)


def test_conditions_are_told_and_keyed_apart(speech: Samples, vad: VoiceActivity) -> None:
    asked = list(conditions.list_conditions((1.0, None), (None, 10.0), ("none", "mulaw")))
    told = [(condition.length, condition.channel) for condition in asked]
    assert told == [
        (length, channel)
        for length in ("1 s", "full")
        for channel in ("as recorded", "10 dB", "G.711 mu-law")
    ]
    assert len({Degradation(condition, vad).key for condition in asked}) == len(asked)
    noisy = Degradation(Condition(snr_db=10.0), vad)
    assert np.array_equal(noisy("a", speech, RATE), noisy("a", speech, RATE))
    assert np.array_equal(Degradation(Condition(), vad)("a", speech, RATE), speech)


def test_telephone_lines_have_the_edges_they_say(speech: Samples) -> None:
    hertz = np.fft.rfftfreq(len(speech), 1 / RATE)

    def gain_db(heard: Samples, low: float, high: float) -> float:
        band = (hertz > low) & (hertz < high)
        power = [np.sum(np.abs(np.fft.rfft(one)[band]) ** 2) for one in (heard, speech)]
        return float(10 * np.log10(power[0] / power[1]))

    steep, gentle = channels.steep_line(speech, RATE), channels.gentle_line(speech, RATE)
    for line in (steep, gentle):
        assert gain_db(line, 320, 3380) == pytest.approx(0, abs=0.2)
    assert gain_db(steep, 200, 290) < -40
    assert gain_db(steep, 3450, 8000) < -40
    assert gain_db(gentle, 140, 160) == pytest.approx(-24, abs=2)
    assert gain_db(gentle, 6700, 6900) == pytest.approx(-24, abs=2)


def test_a_narrow_channel_has_one_of_three_bands(
    speech: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: set[str] = set()

    def noting(name: str) -> Callable[[Samples, int], Samples]:
        return lambda samples, _rate: drawn.add(name) or samples

    monkeypatch.setattr(channels, "BANDS", tuple(noting(name) for name in ("a", "b", "c")))
    for number in range(20):
        CrossChannel(0, "test", channels.TELEPHONE)(str(number), speech[:RATE], RATE)
    assert drawn == {"a", "b", "c"}


@pytest.mark.parametrize("name", impairments.IMPAIRMENTS)
def test_an_impairment_is_the_same_for_the_same_clip(speech: Samples, name: str) -> None:
    if name.startswith("Opus") and "opus" not in codecs.list_available():
        pytest.skip("no libopus")
    piece = speech[: 2 * RATE]
    heard = Impaired(name)("a", piece, RATE)
    assert heard.dtype == np.float32
    assert len(heard) >= len(piece)
    assert np.abs(heard).max() < 1.5
    assert np.array_equal(heard, Impaired(name)("a", piece, RATE))
    assert np.array_equal(heard, piece) == (name == "clean")
    assert Impaired(name).key != Impaired(name, 1).key


def test_an_impairment_is_what_it_says(speech: Samples) -> None:
    def added(name: str) -> Samples:
        return Impaired(name)("a", speech / 2, RATE) - speech / 2  # type: ignore[arg-type,return-value]

    assert added("DC offset") == pytest.approx(0.1, abs=1e-6)
    for name, hertz in (("50 Hz hum", 50), ("30 Hz rumble", 30)):
        spectrum = np.abs(np.fft.rfft(added(name)))
        assert np.argmax(spectrum) == pytest.approx(hertz * len(speech) / RATE, abs=1)
    for name, before_s in (("keypad", 6), ("ringback", 20), ("silence", 10)):
        [whole] = [each for each in impairments.IMPAIRMENTS if each.startswith(name)]
        heard = Impaired(whole)("a", speech, RATE)
        assert len(heard) == len(speech) + before_s * RATE
        assert np.array_equal(heard[-len(speech) :], speech)


def test_an_unknown_condition_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="no condition 'snow'; there is clean, DC offset"):
        Impaired("snow")
