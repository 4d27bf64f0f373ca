from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from training.frontends.log_mel import LEVEL_FLOOR, POWER_FLOOR, LogMel


def waveforms(batch: int, samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(samples))


@pytest.mark.parametrize("samples", [400, 560, 16000, 24123])
@pytest.mark.parametrize(("rate_hz", "mels", "high_hz"), [(16000, 80, 7600.0), (8000, 40, 3800.0)])
def test_matches_librosa(samples: int, rate_hz: int, mels: int, high_hz: float) -> None:
    front_end = LogMel(sample_rate_hz=rate_hz, mels=mels, low_hz=60.0, high_hz=high_hz)
    batch = waveforms(3, samples)
    window, margin = front_end.window_samples, (512 - front_end.window_samples) // 2
    for waveform, features in zip(batch.numpy(), front_end(batch).numpy(), strict=True):
        level = np.sqrt(np.mean(waveform.astype(np.float64) ** 2)) + LEVEL_FLOOR
        mel = librosa.feature.melspectrogram(
            y=np.pad(waveform / level, margin),  # librosa centers the window in its 512 samples
            sr=rate_hz,
            n_fft=512,
            win_length=window,
            hop_length=front_end.hop_samples,
            center=False,
            power=2.0,
            n_mels=mels,
            fmin=60.0,
            fmax=high_hz,
            htk=True,
            norm=None,
        )
        log_mel = np.log(mel + POWER_FLOOR)
        expected = log_mel - log_mel.mean(axis=1, keepdims=True)
        assert features.shape == expected.shape
        assert features == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("samples", [400, 559, 560, 32000])
def test_frames_are_those_of_an_uncentred_stft(samples: int) -> None:
    spectrum = torch.stft(
        waveforms(1, samples),
        400,
        160,
        window=torch.hann_window(400),
        center=False,
        return_complex=True,
    )
    assert LogMel()(waveforms(1, samples)).shape[2] == spectrum.shape[2]


def test_gain_does_not_matter() -> None:
    front_end, batch = LogMel(), waveforms(2, 16000)
    for gain in (0.01, 0.3, 10.0):
        assert torch.allclose(front_end(gain * batch), front_end(batch), atol=0.02)


def test_silence_is_all_zeros() -> None:
    assert not LogMel()(torch.zeros(1, 8000)).any()


def test_mean_over_time_is_removed() -> None:
    assert LogMel()(waveforms(2, 16000)).mean(dim=2).abs().max() < 1e-4
