from __future__ import annotations

import numpy as np
import pytest

from tests.support.waveforms import RATE_HZ, noise, tone
from training import config, encoders
from training.analysis import hearing
from training.augment import Channel
from training.config import Augmentation

RECIPE = """
[augmentation]
band_masks = 2
stretch_masks = 2
[encoder]
name = "ecapa"
width = 16
groups = 2
[[losses]]
name = "info_nce"
[schedule]
steps = 1
"""


def test_spectrogram_shows_a_tone_in_its_place() -> None:
    power_db = hearing.make_spectrogram(tone(2000.0, gain=1.0), RATE_HZ)
    assert (power_db.argmax(axis=0) * RATE_HZ / 400 == 2000).all()
    assert power_db.max() == pytest.approx(20 * np.log10(1 / np.sqrt(2)), abs=0.5)
    assert hearing.make_spectrogram(tone(2000.0)[:7], RATE_HZ).shape[1] >= 1


def test_stages_alone_start_from_the_clip_and_the_seed() -> None:
    channel = Channel(Augmentation(), RATE_HZ, (), ())
    speech = noise(0)
    once, again = (dict(hearing.apply_stages(channel, speech, 4)) for _ in range(2))
    assert list(once) == ["room", "equaliser", "level", "telephone", "chain"]
    assert all(np.array_equal(once[name], again[name]) for name in once)
    assert np.array_equal(once["chain"], channel(speech, np.random.default_rng(4)))


def test_masked_features_are_those_of_training() -> None:
    encoder = encoders.build(config.parse(RECIPE))
    before, after = hearing.make_features(encoder, noise(0, 32000), 1)
    changed = before != after
    assert before.shape == after.shape == (80, 198)
    assert (after[changed] == 0).all()
    assert 0 < changed.mean() < 0.5
