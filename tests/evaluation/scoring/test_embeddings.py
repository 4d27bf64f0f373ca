"""Files to voices: the cache, what cannot be acquired, and enrolments of several clips."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.scoring import embeddings, scores
from evaluation.scoring.cache import Cache, Voice
from evaluation.trials.manifest import Clip, Speaker
from evaluation.trials.trials import Model, Trials
from service.decisions import scoring

RATE = 16_000


class Loudness:
    """A stand-in system: the mean magnitude, and nothing at all below 0.01."""

    model_id = "loudness"
    cut = "whole"
    rate = RATE

    def __init__(self) -> None:
        self.calls = 0

    async def embed(self, samples: NDArray[np.float32]) -> Voice:
        self.calls += 1
        level = float(np.abs(samples).mean())
        vector = np.array([level, 1], np.float32) / np.hypot(level, 1)
        length_s = len(samples) / RATE
        return Voice(vector.astype(np.float32) if level > 0.01 else None, level, length_s, 20.0)


class Halved:
    key = "half"

    def __call__(self, name: str, samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
        return samples / 2  # type: ignore[return-value]


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    made = []
    for level in (0.5, 0.25, 0.0):
        file = tmp_path / f"{level}.wav"
        soundfile.write(file, np.full(RATE, level, np.float32), RATE, subtype="FLOAT")
        made.append(Clip(file.name, file, Speaker("", file.stem)))
    return made


def embed(
    system: Loudness, clips: list[Clip], path: Path | None, **more: Halved
) -> embeddings.Voices:
    with Cache.open(path) as cache:
        return asyncio.run(embeddings.embed(system, clips, cache, **more))  # type: ignore[arg-type]


def test_a_second_run_comes_from_the_cache(clips: list[Clip], tmp_path: Path) -> None:
    system = Loudness()
    first = embed(system, clips, tmp_path / "deep" / "cache.sqlite")
    again = embed(system, clips, tmp_path / "deep" / "cache.sqlite")
    assert system.calls == 3
    for name in ("vectors", "acquired", "speech_s", "total_s", "snr_db"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert first.speech_s == pytest.approx([0.5, 0.25, 0])
    assert list(first.acquired) == [True, True, False]
    assert first.failure_to_acquire == pytest.approx(1 / 3)


def test_a_changed_file_another_model_and_a_treatment_are_embedded_anew(
    clips: list[Clip], tmp_path: Path
) -> None:
    system, path = Loudness(), tmp_path / "cache.sqlite"
    embed(system, clips, path)
    halved = embed(system, clips, path, treatment=Halved())
    assert system.calls == 6
    assert halved.speech_s == pytest.approx([0.25, 0.125, 0])
    soundfile.write(clips[2].file, np.full(RATE, 0.75, np.float32), RATE, subtype="FLOAT")
    assert embed(system, clips, path).speech_s[2] == pytest.approx(0.75)
    assert system.calls == 7
    system.model_id = "other"
    embed(system, clips, path)
    assert system.calls == 10
    system.cut = "in other windows"
    embed(system, clips, path)
    assert system.calls == 13


def test_what_is_no_audio_is_not_acquired(clips: list[Clip], tmp_path: Path) -> None:
    clips[1].file.write_text("no audio at all")
    assert list(embed(Loudness(), clips, None).acquired) == [True, False, False]


def test_a_file_that_vanished_is_an_error(clips: list[Clip]) -> None:
    clips[1].file.unlink()
    with pytest.raises(EvaluationError, match=r"0\.25\.wav: No such file"):
        embed(Loudness(), clips, None)


def test_nothing_to_judge_is_an_error(clips: list[Clip]) -> None:
    with pytest.raises(EvaluationError, match="no clip holds enough speech"):
        embed(Loudness(), clips[2:], None)


def test_enrolments_of_several_clips_and_failures(clips: list[Clip]) -> None:
    voices = embed(Loudness(), clips, None)
    models = (Model("both", (0, 1, 2)), Model("second", (1,)), Model("none", (2,)))
    asked = Trials(
        models,
        tuple(clips),
        np.array([0, 0, 1, 2, 1], np.int32),
        np.array([0, 1, 0, 0, 2], np.int32),
        np.array([True, False, False, True, True]),
    )
    scored = scores.score(asked, voices)
    assert scored.unscored == 2
    assert scored.failure_to_enrol == pytest.approx(1 / 3)
    assert scored.failure_to_acquire == pytest.approx(1 / 3)
    both = scoring.average_voice(voices.vectors[:2], voices.speech_s[:2].astype(np.float32))
    expected = [
        scoring.cosine(both, voices.vectors[0]),
        scoring.cosine(both, voices.vectors[1]),
        scoring.cosine(voices.vectors[1], voices.vectors[0]),
    ]
    assert scored.measures.cosine == pytest.approx(expected, abs=1e-6)
    assert scored.measures.enrol_speech_s == pytest.approx([0.75, 0.75, 0.25])
    assert scored.measures.test_speech_s == pytest.approx([0.5, 0.25, 0.5])
