"""The baseline: mean and deviation of MFCCs over the same net speech, compared by cosine."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import librosa
import numpy as np
from numpy.typing import NDArray

from evaluation.scoring.cache import Voice
from evaluation.scoring.embeddings import Voices
from service.audio import speech
from service.audio.speech import VoiceActivity
from service.decisions.scoring import l2_normalize

COEFFICIENTS = 20


class MfccStatistics:
    """20 mel-frequency cepstral coefficients, as (40,) means and deviations."""

    model_id = "mfcc-mean-deviation-1"
    cut = "whole"

    def __init__(self, vad: VoiceActivity, *, rate: int, min_speech_s: float) -> None:
        self._vad = vad
        self.rate = rate
        self._min_speech_s = min_speech_s

    async def embed(self, samples: NDArray[np.float32]) -> Voice:
        return await asyncio.to_thread(self._embed, samples)

    def _embed(self, samples: NDArray[np.float32]) -> Voice:
        extracted = speech.extract(self._vad, samples)
        quality = extracted.quality
        vector = None
        if quality.net_speech_s >= self._min_speech_s:
            mfcc = librosa.feature.mfcc(y=extracted.samples, sr=self.rate, n_mfcc=COEFFICIENTS)
            vector = np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)]).astype(np.float32)
        return Voice(vector, quality.net_speech_s, quality.total_s, quality.snr_db or 0.0)


def standardize(*sides: Voices) -> tuple[Voices, ...]:
    """Scale every coefficient to mean 0 and deviation 1 over all `sides`, then rows to unit length.

    The statistics are those of the very clips that are scored, which favors the baseline.
    """
    acquired = np.concatenate([voices.vectors[voices.acquired] for voices in sides])
    mean, deviation = acquired.mean(axis=0), np.maximum(acquired.std(axis=0), 1e-6)
    scaled = [(voices.vectors - mean) / deviation for voices in sides]
    return tuple(
        replace(voices, vectors=l2_normalize(vectors))
        for voices, vectors in zip(sides, scaled, strict=True)
    )
