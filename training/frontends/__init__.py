"""Waveform (batch, samples) to features (batch, mels, frames), in plain operations that are
exported with the encoder.

log_mel     the front end of this project
published   those of Kaldi, SpeechBrain, NeMo and librosa
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from training import config
from training.frontends.log_mel import LogMel
from training.frontends.published import KaldiFbank, NemoMel, SpeechBrainFbank, hamming, povey


def wespeaker(rate: int, mels: int) -> nn.Module:
    """Kaldi's filterbank of 16-bit sample values, with a Hamming window."""
    return KaldiFbank(rate=rate, mels=mels, window=hamming, scale=32768.0)


def three_d_speaker(rate: int, mels: int) -> nn.Module:
    """Kaldi's filterbank as it is."""
    return KaldiFbank(rate=rate, mels=mels, window=povey)


def nemo(rate: int, mels: int) -> nn.Module:
    return NemoMel(rate=rate, mels=mels)


def speechbrain(rate: int, mels: int) -> nn.Module:
    return SpeechBrainFbank(rate=rate, mels=mels)


PUBLISHED: Mapping[str, Callable[[int, int], nn.Module]] = {
    "wespeaker": wespeaker,
    "3d-speaker": three_d_speaker,
    "nemo": nemo,
    "speechbrain": speechbrain,
}
"""By the toolkit that trains with them, for a sample rate in hertz and a number of mels."""


def log_mel(settings: config.FrontEnd) -> LogMel:
    """This project's front end, at the rate and in the band of a recipe."""
    return LogMel(
        sample_rate_hz=settings.sample_rate_hz,
        mels=settings.mels,
        low_hz=settings.low_hz,
        high_hz=settings.high_hz,
    )


def build(settings: config.FrontEnd) -> nn.Module:
    if settings.name in PUBLISHED:
        return PUBLISHED[settings.name](settings.sample_rate_hz, settings.mels)
    return log_mel(settings)
