"""A Sayso model, run exactly as the server runs it."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.scoring.cache import Voice
from service.audio import quality, speech
from service.audio.speech import VoiceActivity
from service.contract import Contract
from service.decisions.scoring import UNKNOWN_SNR_DB
from service.inference.embedder import Embedder
from service.inference.session import Device, Session

MAX_BATCH = 64
QUEUE_LIMIT = 1 << 20


@cache
def _hash_speech_detection() -> str:
    """A digest of the code that detects and measures speech.

    It is part of the cache's key, so that no voice of an older detector is taken from a cache.
    """
    source = "".join(inspect.getsource(module) for module in (quality, speech))
    return hashlib.sha256(source.encode()).hexdigest()[:12]


class SaysoModel:
    """A model behind the service's own speech detection, windows and batcher."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @classmethod
    @asynccontextmanager
    async def open(cls, model: Path, *, device: Device = "auto") -> AsyncIterator[SaysoModel]:
        """Load and warm up the model in the file `model`; ModelError if it cannot be loaded."""
        session = Session.open(model, device=device)
        vad = VoiceActivity.open()
        async with Embedder(
            session,
            vad,
            max_batch=MAX_BATCH,
            queue_limit=QUEUE_LIMIT,
            speech_threads=os.cpu_count() or 1,
        ) as embedder:
            yield cls(embedder)

    @property
    def contract(self) -> Contract:
        return self._embedder.contract

    @property
    def model_id(self) -> str:
        return self.contract.model_id

    @property
    def cut(self) -> str:
        contract = self.contract
        lengths = (*contract.short_windows, contract.window_samples)
        windows = f"{lengths} every {contract.hop_samples} from {contract.min_speech_samples}"
        return f"{windows}, heard by {_hash_speech_detection()}"

    @property
    def rate(self) -> int:
        return self.contract.sample_rate

    async def embed(self, samples: NDArray[np.float32]) -> Voice:
        utterance = await self._embedder.embed(samples)
        quality_of = utterance.quality
        snr_db = UNKNOWN_SNR_DB if quality_of.snr_db is None else quality_of.snr_db
        return Voice(utterance.embedding, quality_of.net_speech_s, quality_of.total_s, snr_db)
