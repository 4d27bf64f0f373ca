import csv
import itertools
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from service.audio.quality import SAMPLE_RATE, Quality
from service.audio.speech import (
    CONTEXT_SAMPLES,
    FRAME_SAMPLES,
    SpeechDetector,
    SpeechSegmentation,
    State,
    VoiceActivity,
    extract,
)
from service.errors import StartupError

DATA = Path(__file__).parents[4] / "shared" / "data"
SENTENCE = "My voice is my password, and nobody else in this building may use it."


@pytest.fixture(scope="module")
def vad() -> VoiceActivity:
    return VoiceActivity.open()


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Synthesised speech at 16 kHz with half a second of silence on both sides."""
    path = tmp_path_factory.mktemp("speech") / "sentence.wav"
    if flite := shutil.which("flite"):
        subprocess.run([flite, "-voice", "slt", "-t", SENTENCE, "-o", path], check=True)
    elif espeak := shutil.which("espeak-ng"):
        subprocess.run([espeak, "-w", path, SENTENCE], check=True)
    else:
        pytest.skip("needs flite or espeak-ng")
    samples, rate = soundfile.read(path, dtype="float32")
    quiet = np.zeros(SAMPLE_RATE // 2, np.float32)
    return np.concatenate([quiet, soxr.resample(samples, rate, SAMPLE_RATE), quiet])


class FakeActivity(VoiceActivity):
    """Says that a frame's probability of speech is its mean."""

    def __init__(self) -> None:
        zero = np.zeros(1, np.float32)
        self.initial_state = (zero, zero)
        self.frames: list[np.ndarray] = []

    def estimate_speech(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        self.frames.extend(frames)
        return frames[:, CONTEXT_SAMPLES:].mean(axis=1), state


class Blocks(FakeActivity):
    """Notes how many frames it is given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[int] = []

    def estimate_speech(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        self.blocks.append(len(frames))
        return super().estimate_speech(frames, state)


def _noise(seconds: float, level: float) -> np.ndarray:
    count = int(seconds * SAMPLE_RATE)
    return (level * np.random.default_rng(7).standard_normal(count)).astype(np.float32)


def _tones(seconds: float, *hertz: float) -> np.ndarray:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    waves = 0.2 * np.sin(2 * np.pi * np.outer(hertz, t))
    return np.asarray(waves.sum(axis=0), np.float32)


def _pushed(detector: SpeechDetector, samples: np.ndarray, cuts: list[int]) -> np.ndarray:
    edges = [0, *sorted(cut % (samples.size + 1) for cut in cuts), samples.size]
    speech = [detector.push(samples[start:end]) for start, end in itertools.pairwise(edges)]
    return np.concatenate([*speech, detector.finish()])


def _naive_speech_frames(probabilities: list[float], rules: SpeechSegmentation) -> list[bool]:
    voiced: list[bool] = []
    for probability in probabilities:
        limit = rules.leave if voiced and voiced[-1] else rules.enter
        voiced.append(bool(np.float32(probability) >= limit))
    speech = [False] * len(voiced)
    position = 0
    for value, run in itertools.groupby(voiced):
        length = len(list(run))
        if value and length >= rules.min_frames:
            first = max(0, position - rules.before_frames)
            end = min(len(voiced), position + length + rules.after_frames)
            speech[first:end] = [True] * (end - first)
        position += length
    return speech


@given(
    probabilities=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75]), max_size=60),
    rules=st.builds(
        SpeechSegmentation,
        enter=st.just(0.6),
        leave=st.sampled_from([0.3, 0.6]),
        min_frames=st.integers(1, 4),
        before_frames=st.integers(0, 4),
        after_frames=st.integers(0, 4),
    ),
    cuts=st.lists(st.integers(0, 40_000), max_size=10),
)
@settings(deadline=None, max_examples=300)
def test_speech_is_the_naive_choice_of_frames(
    probabilities: list[float], rules: SpeechSegmentation, cuts: list[int]
) -> None:
    samples = np.repeat(np.array(probabilities, np.float32), FRAME_SAMPLES)
    chosen = np.repeat(_naive_speech_frames(probabilities, rules), FRAME_SAMPLES)
    detector = SpeechDetector(FakeActivity(), rules)
    speech = _pushed(detector, samples, cuts)
    assert np.array_equal(speech, samples[chosen.astype(bool)])
    assert detector.quality.net_speech_s == speech.size / SAMPLE_RATE
    assert detector.quality.total_s == samples.size / SAMPLE_RATE


@given(count=st.integers(0, 3_000), cuts=st.lists(st.integers(0, 3_000), max_size=10))
@settings(deadline=None)
def test_model_sees_each_frame_after_the_end_of_the_one_before(count: int, cuts: list[int]) -> None:
    vad = FakeActivity()
    samples = np.arange(count, dtype=np.float32)
    _pushed(SpeechDetector(vad), samples, cuts)
    frames = -(-count // FRAME_SAMPLES)
    padded = np.pad(samples, (CONTEXT_SAMPLES, frames * FRAME_SAMPLES - count))
    size = CONTEXT_SAMPLES + FRAME_SAMPLES
    expected = [padded[i * FRAME_SAMPLES : i * FRAME_SAMPLES + size] for i in range(frames)]
    assert np.array_equal(vad.frames, expected)


@pytest.mark.parametrize("extra", [1, 100, 511])
def test_last_partial_frame_is_speech_without_its_padding(extra: int) -> None:
    samples = np.ones(4 * FRAME_SAMPLES + extra, np.float32)
    detector = SpeechDetector(FakeActivity())
    speech = np.concatenate([detector.push(samples), detector.finish()])
    assert np.array_equal(speech, samples)


def test_speech_is_known_as_soon_as_a_burst_is() -> None:
    detector = SpeechDetector(FakeActivity(), SpeechSegmentation(min_frames=3))
    frame = np.ones(FRAME_SAMPLES, np.float32)
    assert [detector.push(frame).size // FRAME_SAMPLES for _ in range(5)] == [0, 0, 3, 1, 1]


def test_memory_does_not_grow_with_silence() -> None:
    detector = SpeechDetector(FakeActivity())
    for _ in range(200):
        detector.push(np.zeros(1_000, np.float32))
    assert _buffered_samples(detector) < 8 * FRAME_SAMPLES
    assert len(detector._undecided_frames) < 8


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_long_push_is_not_held(value: float) -> None:
    detector = SpeechDetector(FakeActivity())
    speech = detector.push(np.full(1_300 * FRAME_SAMPLES + 9, value, np.float32))
    assert speech.base is None
    assert _buffered_samples(detector) < 8 * FRAME_SAMPLES


def _buffered_samples(detector: SpeechDetector) -> int:
    whole = detector._buffer if detector._buffer.base is None else detector._buffer.base
    assert isinstance(whole, np.ndarray)
    return whole.size


@pytest.mark.parametrize("before", [0, 1, FRAME_SAMPLES - 1])
def test_the_model_hears_a_long_push_in_blocks(before: int) -> None:
    vad = Blocks()
    detector = SpeechDetector(vad)
    detector.push(np.zeros(before, np.float32))
    detector.push(np.zeros(1_100 * FRAME_SAMPLES, np.float32))
    assert vad.blocks == [512, 512, 76]


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 40_000),
    cuts=st.lists(st.integers(0, 40_000), max_size=10),
)
@settings(deadline=None)
def test_any_chunking_gives_the_same_bits(seed: int, count: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    means = rng.choice([0, 0.3, 0.45, 0.8, 1], count // FRAME_SAMPLES + 1)
    noisy = np.repeat(means, FRAME_SAMPLES)[:count] + rng.normal(0, 0.01, count)
    samples = noisy.astype(np.float32)
    whole, chunked = SpeechDetector(FakeActivity()), SpeechDetector(FakeActivity())
    assert np.array_equal(_pushed(chunked, samples, cuts), _pushed(whole, samples, []))
    assert chunked.quality == whole.quality


@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(0, 100_000), max_size=40))
def test_any_chunking_finds_the_same_speech(
    vad: VoiceActivity, sentence: np.ndarray, cuts: list[int]
) -> None:
    whole = extract(vad, sentence)
    detector = SpeechDetector(vad)
    assert np.array_equal(_pushed(detector, sentence, cuts), whole.samples)
    assert detector.quality == whole.quality


@pytest.mark.parametrize("chunk", [1, 160, 320, FRAME_SAMPLES])
def test_stream_finds_the_same_speech(vad: VoiceActivity, sentence: np.ndarray, chunk: int) -> None:
    samples = sentence[: SAMPLE_RATE if chunk == 1 else None]
    detector = SpeechDetector(vad)
    speech = _pushed(detector, samples, list(range(chunk, samples.size, chunk)))
    assert np.array_equal(speech, extract(vad, samples).samples)


def test_long_audio_is_taken_in_blocks(vad: VoiceActivity, sentence: np.ndarray) -> None:
    samples = np.tile(sentence, 6)
    whole = extract(vad, samples)
    detector = SpeechDetector(vad)
    speech = _pushed(detector, samples, list(range(0, samples.size, 5_000)))
    assert np.array_equal(speech, whole.samples)
    assert detector.quality == whole.quality


def test_threads_share_one_model(vad: VoiceActivity, sentence: np.ndarray) -> None:
    alone = extract(vad, sentence).samples
    with ThreadPoolExecutor(4) as pool:
        for speech in pool.map(lambda _: extract(vad, sentence), range(8)):
            assert np.array_equal(speech.samples, alone)


def test_most_of_a_sentence_is_speech(vad: VoiceActivity, sentence: np.ndarray) -> None:
    speech = extract(vad, sentence)
    spoken_s = sentence.size / SAMPLE_RATE - 1
    assert 0.75 * spoken_s < speech.quality.net_speech_s < 1.1 * spoken_s
    assert np.square(speech.samples).sum() > 0.98 * np.square(sentence).sum()


def test_telephone_band_keeps_the_speech(vad: VoiceActivity, sentence: np.ndarray) -> None:
    narrow = soxr.resample(soxr.resample(sentence, SAMPLE_RATE, 8_000), 8_000, SAMPLE_RATE)
    wide_s = extract(vad, sentence).quality.net_speech_s
    assert extract(vad, narrow).quality.net_speech_s == pytest.approx(wide_s, rel=0.1)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(5 * SAMPLE_RATE, np.float32),
        _noise(5, 1e-4),
        _noise(5, 0.1),
        _noise(5, 0.5),
        np.cumsum(_noise(5, 0.003), dtype=np.float32),
        _tones(5, 440),
        _tones(5, 1_000),
        _tones(5, 440, 480),
    ],
    ids=["silence", "faint noise", "noise", "loud noise", "brown noise", "440", "1000", "ringing"],
)
def test_silence_noise_and_tones_are_no_speech(vad: VoiceActivity, samples: np.ndarray) -> None:
    speech = extract(vad, samples)
    assert speech.quality.net_speech_s == speech.samples.size / SAMPLE_RATE < 0.1
    assert speech.quality.total_s == 5


def test_nothing_and_next_to_nothing(vad: VoiceActivity) -> None:
    for count in (0, 1, FRAME_SAMPLES - 1):
        speech = extract(vad, np.zeros(count, np.float32))
        assert speech.samples.shape == (0,)
        assert speech.quality == Quality(0.0, count / SAMPLE_RATE, None, 0.0, -120.0)


@pytest.mark.parametrize("margin_s", [0.0, 3.0])
@pytest.mark.parametrize("snr_db", [0, 10, 20])
def test_snr_is_that_of_the_noise_that_was_added(
    vad: VoiceActivity, sentence: np.ndarray, snr_db: int, margin_s: float
) -> None:
    """With a margin, from frames near speech; without, from the quietest speech."""
    speech = sentence[SAMPLE_RATE // 2 : -SAMPLE_RATE // 2]
    speech = speech[: 2 * SAMPLE_RATE]
    speech = speech / np.sqrt(np.square(extract(vad, speech).samples).mean())
    margin = np.zeros(int(margin_s * SAMPLE_RATE), np.float32)
    clean = 0.05 * np.concatenate([margin, speech, margin])
    noise = _noise(clean.size / SAMPLE_RATE, 0.05 * 10 ** (-snr_db / 20))
    quality = extract(vad, (clean + noise[: clean.size]).astype(np.float32)).quality
    assert quality.snr_db == pytest.approx(snr_db, abs=3)


@pytest.mark.parametrize("full_scale", [1.0, 32_124 / 32_768])
def test_clipping_is_the_share_of_samples_at_full_scale(
    vad: VoiceActivity, sentence: np.ndarray, full_scale: float
) -> None:
    driven = 4 * sentence / np.abs(sentence).max()
    clipped = np.clip(driven, -full_scale, full_scale).astype(np.float32)
    speech = extract(vad, clipped)
    expected = np.mean(np.abs(speech.samples) >= full_scale)
    assert expected > 0.02
    assert speech.quality.clipping == pytest.approx(expected, rel=0.1)
    assert extract(vad, (sentence / 2).astype(np.float32)).quality.clipping == 0


def test_peak_is_of_the_whole_signal(vad: VoiceActivity) -> None:
    samples = np.zeros(SAMPLE_RATE, np.float32)
    samples[100] = -0.5
    assert extract(vad, samples).quality.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert extract(vad, samples * 4).quality.peak_dbfs == 0


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vad.onnx"
    with pytest.raises(StartupError, match=r"vad\.onnx"):
        VoiceActivity.open(path)
    path.write_bytes(b"not a model")
    with pytest.raises(StartupError, match=r"vad\.onnx"):
        VoiceActivity.open(path)


def _clips(corpus: str, count: int) -> list[np.ndarray]:
    with (DATA / "manifest.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["corpus"] == corpus]
    step = len(rows) // count
    return [soundfile.read(DATA / row["path"], dtype="float32")[0] for row in rows[::step][:count]]


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("corpus", ["arabic_speech_commands", "dspspeech20"])
def test_short_words_keep_their_speech(vad: VoiceActivity, corpus: str) -> None:
    clips = _clips(corpus, 40)
    found = [extract(vad, clip) for clip in clips]
    kept = [
        np.square(speech.samples).sum() / np.square(clip).sum()
        for speech, clip in zip(found, clips, strict=True)
    ]
    assert np.median(kept) > 0.98
    assert sum(speech.quality.net_speech_s < 0.3 for speech in found) <= 1


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_narrowband_clips_keep_their_speech(vad: VoiceActivity) -> None:
    wide_s = narrow_s = 0.0
    for clip in _clips("speechocean762", 20):
        narrow = soxr.resample(soxr.resample(clip, SAMPLE_RATE, 8_000), 8_000, SAMPLE_RATE)
        wide_s += extract(vad, clip).quality.net_speech_s
        narrow_s += extract(vad, narrow).quality.net_speech_s
    assert narrow_s == pytest.approx(wide_s, rel=0.05)
