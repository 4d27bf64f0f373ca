"""Made data: speakers as points, clips scattered around them, and the clips' manifest."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.scoring.embeddings import Voices
from evaluation.trials.manifest import Clip, Speaker
from tests.support.made_speech import model_file, speech_manifest

__all__ = ["model_file", "speech_manifest"]

World = tuple[tuple[Clip, ...], Voices]


def made_world(
    speakers: int, clips_each: int, *, spread: float = 1.0, seed: int = 0, dim: int = 16
) -> World:
    """Clips and voices of speakers drawn from a Gaussian, each clip `spread` away from its own."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(speakers, 1, dim))
    vectors = centres + spread * rng.normal(size=(speakers, clips_each, dim))
    vectors = vectors.reshape(-1, dim)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    clips = tuple(
        Clip(f"s{speaker}/{take}.wav", Path(f"s{speaker}/{take}.wav"), Speaker("", f"s{speaker}"))
        for speaker in range(speakers)
        for take in range(clips_each)
    )
    return clips, voices_of(vectors.astype(np.float32), rng)


def voices_of(vectors: NDArray[np.float32], rng: np.random.Generator) -> Voices:
    count = len(vectors)
    speech_s = rng.uniform(1, 8, count)
    return Voices(
        vectors,
        np.ones(count, bool),
        speech_s,
        speech_s + 1,
        rng.uniform(5, 30, count),
        tuple(f"{index:x}" for index in range(count)),
    )


@pytest.fixture
def voices_from() -> Callable[..., Voices]:
    """Voices of given vectors, with a flag each for what was acquired."""

    def made(vectors: NDArray[np.float32], acquired: list[bool]) -> Voices:
        voices = voices_of(vectors, np.random.default_rng(0))
        return replace(voices, acquired=np.array(acquired))

    return made


@pytest.fixture
def world() -> Callable[..., World]:
    return made_world
