"""What a line is like: which frequencies pass, how loud its noise is, how much is said."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.scoring.embeddings import MAX_S, Voices
from evaluation.trials.manifest import Clip
from evaluation.tuning.recordings import Recordings
from service.audio import decoding
from service.audio.quality import SAMPLE_RATE
from service.errors import AudioError

FRAME = 512
LOUD_SHARE = 0.5  # of the frames, the louder ones: those with speech
LOW_DB, HIGH_DB = 25.0, 50.0  # below the loudest band: speech itself falls towards high frequencies
LOWEST_HZ = 60.0  # speech has nothing below, hum and offset have
NARROW_HZ = 4200.0
BAND = "band"


@dataclass(frozen=True, slots=True)
class Spread:
    """The 10th, 50th and 90th percentile of a measure over the recordings."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """What the recordings have in common, and where they differ.

    `low_hz` and `high_hz` are the edges of the band that passes; `narrow` is the share of
    recordings without anything above 4.2 kHz, `too_short` the share with too little speech.
    """

    recordings: int
    low_hz: Spread
    high_hz: Spread
    narrow: float
    snr_db: Spread
    speech_s: Spread
    too_short: float
    unreadable: tuple[str, ...]


Bands = NDArray[np.float64]


async def label_bands(recordings: Recordings) -> tuple[Recordings, Bands, tuple[str, ...]]:
    """Decode all recordings once; give each that can be read the label `band`, narrow or wide.

    Returns them with the edges of their bands in hertz (clips, 2), and a sentence for each of the
    others. Raises EvaluationError if none can be read.
    """
    gate = asyncio.Semaphore(os.cpu_count() or 1)

    async def measure(clip: Clip) -> tuple[float, float] | str:
        async with gate:
            return await asyncio.to_thread(_measure_clip, clip)

    found = await asyncio.gather(*map(measure, recordings.clips))
    unreadable = tuple(edges for edges in found if isinstance(edges, str))
    if len(unreadable) == len(found):
        raise EvaluationError(f"no recording can be read; the first: {unreadable[0]}")
    heard = [
        (_label(clip, edges), edges)
        for clip, edges in zip(recordings.clips, found, strict=True)
        if not isinstance(edges, str)
    ]
    labelled = tuple(clip for clip, _ in heard if clip.speaker.name)
    unlabelled = tuple(clip for clip, _ in heard if not clip.speaker.name)
    return Recordings(labelled, unlabelled), np.array([edges for _, edges in heard]), unreadable


def describe(bands: Bands, voices: Sequence[Voices], unreadable: tuple[str, ...]) -> Line:
    """Describe the line by the bands (clips, 2) and what the service measured of the same clips."""
    acquired = np.concatenate([part.acquired for part in voices])
    snr_db, speech_s = (
        np.concatenate([getattr(part, name) for part in voices])[acquired]
        for name in ("snr_db", "speech_s")
    )
    return Line(
        recordings=len(acquired),
        low_hz=_spread(bands[:, 0]),
        high_hz=_spread(bands[:, 1]),
        narrow=float(np.mean(bands[:, 1] < NARROW_HZ)),
        snr_db=_spread(snr_db),
        speech_s=_spread(speech_s),
        too_short=float(np.mean(~acquired)),
        unreadable=unreadable,
    )


def measure_band(samples: NDArray[np.float32]) -> tuple[float, float]:
    """The edges, in hertz, of the band in which `samples` (n,) at 16 kHz have speech.

    The lowest frequency within 25 dB and the highest within 50 dB of the strongest, in the mean
    power spectrum of the louder half of the frames.
    """
    samples = np.pad(samples, (0, max(0, FRAME - len(samples))))
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    frames = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames)) ** 2  # (frames, bins)
    total = power.sum(axis=1)
    mean = power[total >= np.quantile(total, LOUD_SHARE)].mean(axis=0)
    db = 10 * np.log10(mean / max(mean.max(), 1e-20) + 1e-20)
    hertz = np.arange(len(db)) * SAMPLE_RATE / FRAME
    low = np.argmax((db >= -LOW_DB) & (hertz >= LOWEST_HZ))
    return float(hertz[low]), float(hertz[np.flatnonzero(db >= -HIGH_DB)[-1]])


def _measure_clip(clip: Clip) -> tuple[float, float] | str:
    try:
        data = clip.file.read_bytes()
        samples = decoding.decode(data, decoding.AudioFormat(), rate=SAMPLE_RATE, max_s=MAX_S)
    except AudioError as error:
        return f"{clip.name}: {error}"
    except OSError as error:
        return f"{clip.name}: {error.strerror}"
    return measure_band(samples)


def _label(clip: Clip, edges: tuple[float, float]) -> Clip:
    band = "narrow" if edges[1] < NARROW_HZ else "wide"
    return replace(clip, labels={**clip.labels, BAND: band})


def _spread(values: NDArray[np.float64]) -> Spread:
    return Spread(*(float(value) for value in np.quantile(values, (0.1, 0.5, 0.9))))
