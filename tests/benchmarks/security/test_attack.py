"""An attack that cannot succeed would measure nothing: it does against a server that tells."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from benchmarks.security import attacker
from benchmarks.security.attacker import Answer, Guess, climb, equalize, equalize_at_random, measure

DIMENSION = 24


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@dataclass(slots=True)
class Telling:
    """Answers about a clip, whose only sample is its ratio, with scores or by the policy only."""

    scores: bool
    floor: float = -100.0
    calls: int = 0

    def ask(self, clip: Any, llr: float) -> Answer:
        self.calls += 1
        score = float(clip[0])
        accepted = score >= max(llr, self.floor)
        return Answer(accepted, score if self.scores else None, None, 0, 5.0, 20.0)


class Unscaled:
    """A calibration by which a ratio is the cosine."""

    def cosine(self, llr: float, enrol_speech_s: float, answer: Answer) -> float:
        return llr


def test_as_many_cosines_as_dimensions_give_the_voice() -> None:
    chance = np.random.default_rng(0)
    others, stored = (unit(chance.normal(size=(n, DIMENSION))) for n in (DIMENSION, 1))
    guess = Guess.from_voices(unit(chance.normal(size=(200, DIMENSION)) + 0.5))
    before = float(guess.voice @ stored[0])
    for row in others:
        guess.add(row, float(row @ stored[0]), 1e-6)
    assert before < 0.9
    assert guess.voice @ stored[0] == pytest.approx(1.0, abs=1e-4)


def test_a_score_is_read_or_searched_by_bisection() -> None:
    telling, asked = Telling(scores=True), Telling(scores=False)
    clip = np.array([3.7], np.float32)
    read = measure(telling, Unscaled(), clip, 9.0)  # type: ignore[arg-type]
    assert read == (pytest.approx(3.7), 1e-6)
    searched = measure(asked, Unscaled(), clip, 9.0)  # type: ignore[arg-type]
    assert searched is not None
    assert abs(searched[0] - 3.7) <= 60 / 2**7
    assert (telling.calls, asked.calls) == (1, 7)


def test_a_server_that_follows_no_lower_threshold_tells_nothing_of_a_rejected_clip() -> None:
    clip = np.array([1.0], np.float32)
    asked = Telling(scores=False, floor=2.0)
    assert measure(asked, Unscaled(), clip, 9.0) is None  # type: ignore[arg-type]


def test_climbing_comes_nearer_and_ends_where_it_is_refused() -> None:
    noise = np.random.default_rng(0).normal(size=8000).astype(np.float32)
    wanted = equalize(noise, np.linspace(-12, 12, 40))

    def worth(clip: np.ndarray) -> float:
        return -float(np.square(np.fft.rfft(clip - wanted)).real.sum())

    start = equalize(noise, np.zeros(40))
    assert worth(climb(worth, noise, 60)) > worth(start)
    assert len({clip.tobytes() for clip in equalize_at_random(noise, 3)}) == 3

    def refused(clip: np.ndarray) -> float:
        raise attacker.Refused

    assert climb(refused, noise, 60) is noise
