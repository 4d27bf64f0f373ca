"""Opus in this process: as long as before, in step with it, and as many bits as asked for."""

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.degrade import opus
from evaluation.errors import EvaluationError

Samples = NDArray[np.float32]
RATE = 16_000


def chirp(rate: int) -> Samples:
    time_s = np.arange(rate + 77) / rate
    tone = 0.3 * np.sin(2 * np.pi * (200 + 300 * time_s) * time_s)
    return np.asarray(tone, np.float32)


needs_library = pytest.mark.skipif(not opus.is_available(), reason="libopus is not installed")


@needs_library
@pytest.mark.parametrize("rate", opus.RATES_HZ)
def test_what_is_heard_is_in_step_with_what_was_said(rate: int) -> None:
    said = chirp(rate)
    heard = opus.transcode(said, rate, bits_s=24_000)
    assert heard.shape == said.shape
    lags = range(-rate // 400, rate // 400 + 1)
    middle = slice(rate // 4, rate // 2)
    likeness = [float(said[middle] @ np.roll(heard, lag)[middle]) for lag in lags]
    assert abs(lags[int(np.argmax(likeness))]) <= rate // 8000 + 1


@needs_library
def test_more_bits_are_nearer() -> None:
    said = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    apart = [np.mean((opus.transcode(said, RATE, bits_s=b) - said) ** 2) for b in (8_000, 64_000)]
    assert apart[1] < apart[0] / 2


@needs_library
def test_nothing_said_is_nothing_heard() -> None:
    assert opus.transcode(np.empty(0, np.float32), RATE, bits_s=12_000).shape == (0,)


def test_a_rate_that_opus_does_not_have_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="11025"):
        opus.transcode(chirp(11_025), 11_025, bits_s=12_000)
