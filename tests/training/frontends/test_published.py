"""Every front end against the library whose features it stands for."""

import warnings
from collections.abc import Callable

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from exporters.voices import load_voices
from training.frontends.published import Doubles, KaldiFbank, LibrosaMel, hamming, povey

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchaudio.compliance import kaldi


@pytest.fixture(scope="module")
def speech() -> Tensor:
    """(3, samples) at 16 kHz, of a length that is no multiple of a hop."""
    return torch.from_numpy(load_voices(None, rate=16000, samples=40077, count=3)[0])


def test_librosa_mel(speech: Tensor) -> None:
    ours = LibrosaMel(rate=16000, mels=40, window_samples=400, hop_samples=160)(speech).numpy()
    theirs = np.stack(
        [
            librosa.feature.melspectrogram(y=row, sr=16000, n_fft=400, hop_length=160, n_mels=40)
            for row in speech.numpy()
        ]
    )
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * theirs.max())


@pytest.mark.parametrize(
    ("window", "name"), [(povey, "povey"), (hamming, "hamming")], ids=["povey", "hamming"]
)
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("scale", [1.0, 32768.0])
@pytest.mark.parametrize(("rate", "mels"), [(16000, 80), (8000, 40)])
def test_kaldi_fbank(
    speech: Tensor,
    window: Callable[[int], Doubles],
    name: str,
    centered: bool,
    scale: float,
    rate: int,
    mels: int,
) -> None:
    front_end = KaldiFbank(rate=rate, mels=mels, window=window, scale=scale, centered=centered)
    ours = front_end(speech)
    for row, features in zip(speech, ours.transpose(1, 2), strict=True):
        theirs = kaldi.fbank(
            scale * row[None],
            num_mel_bins=mels,
            sample_frequency=rate,
            window_type=name,
            dither=0.0,
            subtract_mean=centered,
        )
        assert features.shape == theirs.shape
        torch.testing.assert_close(features, theirs, rtol=1e-3, atol=5e-3)
        assert (features - theirs).abs().mean() < 2e-5


def test_kaldi_fbank_ignores_a_constant_offset(speech: Tensor) -> None:
    front_end = KaldiFbank(scale=32768.0)
    difference = (front_end(speech + 0.05) - front_end(speech)).abs()
    assert difference.mean() < 1e-3


def test_silence_is_finite() -> None:
    assert KaldiFbank()(torch.zeros(1, 8000)).isfinite().all()
    assert (
        LibrosaMel(rate=16000, mels=40, window_samples=400, hop_samples=160)(torch.zeros(1, 8000))
        .isfinite()
        .all()
    )
