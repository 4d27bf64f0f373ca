"""What a line is like."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from evaluation.degrade import channels
from evaluation.errors import EvaluationError
from evaluation.trials.manifest import Clip, Speaker
from evaluation.tuning import line
from evaluation.tuning.recordings import Recordings


def noise(seconds: float = 2.0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(0).normal(size=int(seconds * 16000))).astype(np.float32)


def test_the_edges_of_a_band_are_found() -> None:
    low, high = line.measure_band(channels.steep_line(noise(), 16000))
    assert low == pytest.approx(300, abs=80)
    assert high == pytest.approx(3400, abs=120)
    assert line.measure_band(noise())[1] > 7800


def test_silence_around_speech_does_not_count() -> None:
    hiss = np.float32(1e-3) * noise(4.0)
    hiss[16000:48000] += channels.steep_line(noise(), 16000)
    assert line.measure_band(hiss)[1] < 3600


def make_clips(folder: Path) -> tuple[Clip, ...]:
    return tuple(Clip(path.name, path, Speaker("", "")) for path in sorted(folder.iterdir()))


async def test_recordings_are_labelled_by_band_and_the_unreadable_left_out(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "wide.wav", noise(), 16000)
    soundfile.write(tmp_path / "narrow.wav", channels.narrow_band(noise(), 16000), 16000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    clips = make_clips(tmp_path)
    found, bands, unreadable = await line.label_bands(Recordings((), clips))
    assert [(clip.name, clip.labels["band"]) for clip in found.unlabelled] == [
        ("narrow.wav", "narrow"),
        ("wide.wav", "wide"),
    ]
    assert bands.shape == (2, 2)
    assert len(unreadable) == 1
    assert unreadable[0].startswith("broken.wav: ")
    with pytest.raises(EvaluationError, match=r"no recording can be read; the first: broken\.wav"):
        await line.label_bands(Recordings((), clips[:1]))
