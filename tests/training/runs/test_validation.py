from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.augment import Channel
from training.config import Augmentation
from training.data.library import Clip, Library
from training.errors import ManifestError
from training.runs.validation import Validation, make_trial_masks

QUIET = Augmentation(noise=0, babble=0, room=0, equaliser=0, telephone=0)
CPU = torch.device("cpu")


class Pitch(nn.Module):
    """Embeds by spectrum: perfect on tones that belong to speakers."""

    def forward(self, waveform: Tensor) -> Tensor:
        return functional.normalize(torch.fft.rfft(waveform).abs(), dim=1)


class Constant(nn.Module):
    def forward(self, waveform: Tensor) -> Tensor:
        return torch.ones(len(waveform), 1)


def tones(pitches_hz: list[float], clips: int, corpora: list[str]) -> Library:
    time_s = np.arange(8000) / 16000
    audio, found = [], []
    for speaker, (pitch_hz, corpus) in enumerate(zip(pitches_hz, corpora, strict=True)):
        for take in range(clips):
            tone = 8000 * np.sin(2 * np.pi * pitch_hz * time_s + take)
            audio.append(tone.astype(np.int16))
            found.append(Clip(Path(f"{speaker}-{take}.wav"), corpus, f"{corpus}/{speaker}"))
    return Library(tuple(found), tuple(audio))


def validation(library: Library) -> Validation:
    channel = Channel(QUIET, 16000, (), library.audio)
    return Validation(library, channel, samples=8000, seed=0)


def test_perfect_and_useless_encoders() -> None:
    made = validation(tones([200, 400, 800], 12, ["x"] * 3))
    perfect, useless = made.measure(Pitch(), CPU), made.measure(Constant(), CPU)
    assert (perfect.recorded, perfect.crossed) == (0.0, 0.0)
    assert useless.mean == pytest.approx(0.5)


def test_trials_stay_within_a_corpus() -> None:
    same_voice_elsewhere = tones([200, 400, 200, 400], 3, ["x", "x", "y", "y"])
    assert validation(same_voice_elsewhere).measure(Pitch(), CPU).recorded == 0.0


def test_crossed_trials_are_the_same_every_time() -> None:
    library = tones([200, 230, 260], 4, ["x"] * 3)
    channel = Channel(Augmentation(noise=0), 16000, (), library.audio)
    first, second = (Validation(library, channel, samples=8000, seed=0) for _ in range(2))
    assert first.measure(Pitch(), CPU) == second.measure(Pitch(), CPU)


def test_copies_of_a_clip_are_not_compared() -> None:
    library = tones([200, 400], 2, ["x"] * 2)
    clips = [*library.clips, library.clips[0], library.clips[3]]
    target, other = make_trial_masks(clips, [b"a", b"b", b"c", b"d", b"a", b"a"])
    listed = {(int(i), int(j)) for i, j in np.argwhere(target) if i < j}
    assert listed == {(0, 1), (1, 4), (2, 3), (2, 5), (3, 5)}, "0 and 4 are one recording"
    assert other[0].tolist() == [False, False, True, True, False, False], "as are 0 and 5"


def test_speakers_with_nothing_but_copies_are_an_error() -> None:
    library = tones([200, 400], 2, ["x"] * 2)
    first, _, third, _ = library.audio
    with pytest.raises(ManifestError, match="the same audio"):
        validation(Library(library.clips, (first, first, third, third)))


@pytest.mark.parametrize(
    ("clips", "corpora", "said"),
    [(1, ["x", "x"], "has two clips"), (2, ["x", "y"], "no corpus has two")],
)
def test_speakers_that_make_no_trials_are_an_error(
    clips: int, corpora: list[str], said: str
) -> None:
    with pytest.raises(ManifestError, match=said):
        validation(tones([200, 400], clips, corpora))
