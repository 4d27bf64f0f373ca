"""Embeddings of files, made as the service makes them, many at once and through a cache.

file -> digest -> cached? -> service.audio.decoding.decode -> treatment -> system.embed -> cache
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evaluation.degrade.treatment import Treatment
from evaluation.errors import EvaluationError
from evaluation.scoring.cache import Cache, Key, Voice
from evaluation.trials.manifest import Clip
from service.audio import decoding
from service.errors import AudioError

Samples = NDArray[np.float32]

MAX_S = 3600.0
NOT_ACQUIRED = Voice(None, 0.0, 0.0, 0.0)


class System(Protocol):
    """A system to evaluate: anything that turns audio at `rate` hertz into a voice."""

    @property
    def model_id(self) -> str: ...

    @property
    def cut(self) -> str:
        """How it cuts audio into windows, in words: a part of the cache's key."""
        ...

    @property
    def rate(self) -> int: ...

    async def embed(self, samples: Samples) -> Voice: ...


@dataclass(frozen=True, slots=True)
class Voices:
    """Embeddings `vectors` (clips, dim), zero where not `acquired` (clips,), and their quality.

    Net speech, length and signal-to-noise ratio are (clips,), `digests` SHA-256 of the files. A
    clip is not acquired (ISO/IEC 19795-1) when it holds too little speech or cannot be read.
    """

    vectors: NDArray[np.float32]
    acquired: NDArray[np.bool_]
    speech_s: NDArray[np.float64]
    total_s: NDArray[np.float64]
    snr_db: NDArray[np.float64]
    digests: tuple[str, ...]

    @property
    def failure_to_acquire(self) -> float:
        """The fraction of clips that gave no embedding."""
        return float(np.mean(~self.acquired))


async def embed(
    system: System,
    clips: Sequence[Clip],
    cache: Cache,
    *,
    treatment: Treatment | None = None,
    wanted: NDArray[np.bool_] | None = None,
    label: str = "embedding",
    at_once: int | None = None,
) -> Voices:
    """Embed `clips`, or take them from the cache; EvaluationError if none can be embedded."""
    [voices] = await embed_each(
        [system], clips, cache, treatment=treatment, wanted=wanted, label=label, at_once=at_once
    )
    return voices


async def embed_each(
    systems: Sequence[System],
    clips: Sequence[Clip],
    cache: Cache,
    *,
    treatment: Treatment | None = None,
    wanted: NDArray[np.bool_] | None = None,
    label: str = "embedding",
    at_once: int | None = None,
) -> list[Voices]:
    """Embed `clips` with each of `systems`; every clip is read and treated once for all of them.

    Clips that are not `wanted` (clips,) are not read and count as not acquired.
    """
    wanted = np.ones(len(clips), bool) if wanted is None else wanted
    gate = asyncio.Semaphore(at_once or 8 + 4 * (os.cpu_count() or 1))
    with _show_progress() as progress:
        task = progress.add_task(label, total=int(wanted.sum()))

        async def embed_one(clip: Clip, want: np.bool_) -> tuple[str, list[Voice]]:
            if not want:
                return "", [NOT_ACQUIRED] * len(systems)
            async with gate:
                voices = await _embed_clip(systems, clip, cache, treatment)
            progress.advance(task)
            return voices

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(embed_one(*pair)) for pair in zip(clips, wanted, strict=True)
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
    digests, rows = zip(*(task.result() for task in tasks), strict=True)
    return [_stack(column, digests) for column in zip(*rows, strict=True)]


async def _embed_clip(
    systems: Sequence[System], clip: Clip, cache: Cache, treatment: Treatment | None
) -> tuple[str, list[Voice]]:
    try:
        data = await asyncio.to_thread(clip.file.read_bytes)
    except OSError as error:
        raise EvaluationError(f"{clip.file}: {error.strerror}") from error
    digest = hashlib.sha256(data).hexdigest()
    treated = f"{treatment.key}|{clip.name}" if treatment else ""
    decoded: dict[int, Samples | None] = {}
    voices = []
    for system in systems:
        key = Key(f"{system.model_id} {system.cut}", digest, treated)
        if (voice := cache.get(key)) is None:
            rate = system.rate
            if rate not in decoded:
                decoded[rate] = await asyncio.to_thread(_decode, data, rate, clip.name, treatment)
            if (samples := decoded[rate]) is None:
                voice = NOT_ACQUIRED
            else:
                voice = await system.embed(samples)
                cache.put(key, voice)
        voices.append(voice)
    return digest, voices


def _decode(data: bytes, rate: int, name: str, treatment: Treatment | None) -> Samples | None:
    """The clip's samples after its treatment; None when it cannot be read."""
    try:
        samples = decoding.decode(data, decoding.AudioFormat(), rate=rate, max_s=MAX_S)
    except AudioError:
        return None
    return samples if treatment is None else treatment(name, samples, rate)


def _stack(voices: Sequence[Voice], digests: tuple[str, ...]) -> Voices:
    dim = next((len(voice.vector) for voice in voices if voice.vector is not None), 0)
    if not dim:
        raise EvaluationError("no clip holds enough speech to be embedded")
    none = np.zeros(dim, np.float32)
    return Voices(
        np.stack([none if voice.vector is None else voice.vector for voice in voices]),
        np.array([voice.vector is not None for voice in voices]),
        np.array([voice.speech_s for voice in voices]),
        np.array([voice.total_s for voice in voices]),
        np.array([voice.snr_db for voice in voices]),
        digests,
    )


def _show_progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
