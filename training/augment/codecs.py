"""Lossy codecs of calls and of their recordings, coded and decoded in memory by libsndfile."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from training.augment.telephone import TELEPHONE_HZ
from training.augment.waveform import Rng, Waveform, fit_length
from training.config import CodecName, Range


@dataclass(frozen=True, slots=True)
class Codec:
    """A lossy codec of libsndfile; `compression_range` is its scale from 0 to 1, None if its bit
    rate is fixed."""

    container: str
    subtype: str
    compression_range: Range | None = None

    def __call__(self, speech: Waveform, sample_rate_hz: int, rng: Rng) -> Waveform:
        """Send speech through 8 kHz and the codec, at a drawn bit rate."""
        narrow = soxr.resample(speech, sample_rate_hz, TELEPHONE_HZ)
        span = self.compression_range
        level = None if span is None else rng.uniform(*span)
        coded = io.BytesIO()
        soundfile.write(
            coded,
            np.clip(narrow, -1.0, 1.0),
            TELEPHONE_HZ,
            format=self.container,
            subtype=self.subtype,
            compression_level=level,
        )
        coded.seek(0)
        decoded, rate_hz = soundfile.read(coded, dtype="float32")
        return fit_length(speech, soxr.resample(decoded, rate_hz, sample_rate_hz))


CODECS: dict[CodecName, Codec] = {
    "gsm": Codec("WAV", "GSM610"),
    "mp3": Codec("MP3", "MPEG_LAYER_III", (0.5, 0.99)),
    "opus": Codec("OGG", "OPUS", (0.8, 1.0)),
    "vorbis": Codec("OGG", "VORBIS", (0.6, 1.0)),
}
