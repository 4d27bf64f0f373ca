"""Augmentation to be heard and seen: a clip before and after, with the spectrograms of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import signal

from training.augment import Channel, Waveform
from training.config import Augmentation
from training.encoders import SpeakerEncoder

RANGE_DB = 80.0
FLOOR = 1e-12
WINDOW_S, HOP_S = 0.025, 0.005

Picture = npt.NDArray[np.floating]


def with_stage(settings: Augmentation, stage: str) -> Augmentation:
    """`settings` with one stage always on, if that stage has a probability."""
    if stage not in Augmentation.model_fields:
        return settings
    return settings.model_copy(update={stage: 1.0})


def apply_stages(channel: Channel, speech: Waveform, seed: int) -> Iterator[tuple[str, Waveform]]:
    """Each stage alone, then the whole chain as training draws it; each from the seed."""
    for stage in channel.stages:
        yield stage.name, stage.apply(speech, np.random.default_rng(seed))
    yield "chain", channel(speech, np.random.default_rng(seed))


def change_speeds(
    speech: Waveform, speeds: tuple[float, ...], sample_rate_hz: int
) -> Iterator[tuple[str, Waveform]]:
    """The voices that the recipe's speeds make of this one."""
    for speed in speeds:
        if speed != 1.0:
            resampled = soxr.resample(speech, sample_rate_hz * speed, sample_rate_hz)
            yield f"speed-{speed:g}", resampled


@torch.no_grad()
def make_features(encoder: SpeakerEncoder, speech: Waveform, seed: int) -> tuple[Picture, Picture]:
    """Log-mel features (mels, frames), plain and as the encoder is given them in training."""
    torch.manual_seed(seed)
    log_mel = encoder.front_end(torch.from_numpy(speech)[None])
    return log_mel[0].numpy(), encoder.masks.train()(log_mel)[0].numpy()


def make_spectrogram(speech: Waveform, sample_rate_hz: int) -> Picture:
    """Power in dB, (bins, frames), no lower than 120 dB below full scale."""
    window = round(WINDOW_S * sample_rate_hz)
    _, _, power = signal.spectrogram(
        speech,
        sample_rate_hz,
        nperseg=min(window, speech.size),
        noverlap=min(window, speech.size) - min(round(HOP_S * sample_rate_hz), speech.size),
        scaling="spectrum",
    )
    return np.asarray(10 * np.log10(power + FLOOR))


def write_audio(
    folder: Path, name: str, before: Waveform, after: Waveform, sample_rate_hz: int
) -> None:
    """Write NAME.wav, and NAME.png with the spectrograms of before and after on one color scale."""
    soundfile.write(folder / f"{name}.wav", np.clip(after, -1.0, 1.0), sample_rate_hz, "PCM_16")
    figure = Figure(figsize=(9, 6), layout="constrained")
    pair = [make_spectrogram(waveform, sample_rate_hz) for waveform in (before, after)]
    loudest_db = max(float(power_db.max()) for power_db in pair)
    rows = zip(figure.subplots(2, 1), ("before", name), (before, after), pair, strict=True)
    for axes, title, waveform, power_db in rows:
        extent = (0, waveform.size / sample_rate_hz, 0, sample_rate_hz / 2000)
        _draw(axes, title, power_db, extent, (loudest_db - RANGE_DB, loudest_db))
        axes.set(ylabel="kHz")
    figure.savefig(folder / f"{name}.png", dpi=100)


def write_spectrograms(folder: Path, name: str, before: Picture, after: Picture) -> None:
    """Write NAME.png with the features before and after."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    for axes, title, log_mel in zip(
        figure.subplots(2, 1), ("before", name), (before, after), strict=True
    ):
        extent = (0, log_mel.shape[1] / 100, 0, log_mel.shape[0])
        _draw(axes, title, log_mel, extent, (float(before.min()), float(before.max())))
        axes.set(ylabel="mel")
    figure.savefig(folder / f"{name}.png", dpi=100)


def _draw(
    axes: Axes,
    title: str,
    picture: Picture,
    extent: tuple[float, float, float, float],
    limits: tuple[float, float],
) -> None:
    axes.imshow(
        picture, origin="lower", aspect="auto", extent=extent, vmin=limits[0], vmax=limits[1],
        cmap="magma", interpolation="nearest",
    )  # fmt: skip
    axes.set(title=title, xlabel="s")
