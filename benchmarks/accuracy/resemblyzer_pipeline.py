"""Resemblyzer as its authors run it, to measure other models beside."""

from __future__ import annotations

import asyncio
import importlib

import numpy as np
from numpy.typing import NDArray

from evaluation.scoring.cache import Voice

RATE = 16000
LEAST_S = 0.25


class ResemblyzerPipeline:
    """The package's own voice activity detection, level, partial utterances and their mean.

    A clip that has less than a quarter of a second of speech counts as not acquired."""

    model_id, rate = "resemblyzer-own", RATE
    cut = "as the package cuts"

    def __init__(self) -> None:
        self._package = importlib.import_module("resemblyzer")
        self._encoder = self._package.VoiceEncoder("cpu", verbose=False)

    async def embed(self, samples: NDArray[np.float32]) -> Voice:
        return await asyncio.to_thread(self._embed, samples)

    def _embed(self, samples: NDArray[np.float32]) -> Voice:
        total_s = len(samples) / RATE
        kept = self._package.preprocess_wav(samples)
        if len(kept) < LEAST_S * RATE:
            return Voice(None, 0.0, total_s, 0.0)
        return Voice(self._encoder.embed_utterance(kept), len(kept) / RATE, total_s, 0.0)
