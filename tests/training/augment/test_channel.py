from __future__ import annotations

import numpy as np
import pytest

from tests.support.waveforms import RATE_HZ, noise, recordings
from training import config
from training.augment import Channel, measure_rms
from training.config import Augmentation

QUIET = Augmentation(noise=0, babble=0, room=0, equaliser=0, telephone=0)
EVERYTHING = Augmentation(
    noise=1, babble=1, room=1, shoebox=0.5, shoebox_rooms=8, equaliser=1, drift=1, telephone=1,
    codec=1, codecs=("gsm", "mp3", "opus", "vorbis"), packet_loss=1,
)  # fmt: skip
KINDS = ["noise", "babble", "room", "equaliser", "drift", "telephone", "codec", "packet_loss"]

# What is left of the generator, and the level and one sample of what came out, for places 0 to 5.
PINNED = {
    "first": [
        (1651522740, 0.021312, 0.00316),
        (1880432090, 0.046534, 0.03093),
        (1643406466, 0.014012, -0.00711),
        (1851114215, 0.059317, 0.0238),
        (1718924421, 0.011727, -0.00471),
        (4062174367, 0.049556, 0.04611),
    ],
    "restart": [
        (1310743892, 0.085938, -0.03952),
        (3858289900, 0.022771, 0.01956),
        (265511757, 0.045831, -0.00555),
        (771272895, 0.088666, 0.05482),
        (3665220731, 0.107185, 0.09227),
        (250191075, 0.116271, -0.03002),
    ],
}


def channel(settings: Augmentation) -> Channel:
    return Channel(settings, RATE_HZ, recordings(10), recordings(20))


@pytest.mark.parametrize("samples", [4000, 16001, 32000])
@pytest.mark.parametrize("settings", [QUIET, Augmentation(), EVERYTHING])
def test_channel_is_seeded_and_keeps_shape_and_range(settings: Augmentation, samples: int) -> None:
    speech, send = noise(0, samples), channel(settings)
    once, again = (send(speech, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, send(speech, np.random.default_rng(6)))
    assert once.shape == speech.shape
    assert once.dtype == np.float32
    assert np.isfinite(once).all()
    assert np.abs(once).max() <= 1.5


def test_a_share_of_the_clips_only_has_its_level_set() -> None:
    speech = noise(0)
    send = channel(Augmentation(clean=0.5, noise=1, equaliser=1, telephone=1))
    heard = [send(speech, np.random.default_rng(place)) for place in range(200)]
    alike = [
        np.allclose(one / measure_rms(one), speech / measure_rms(speech), atol=1e-4)
        for one in heard
    ]
    assert 0.35 < np.mean(alike) < 0.65
    assert len({round(float(measure_rms(one)), 6) for one in heard}) == 200


def test_quiet_channel_only_sets_the_level() -> None:
    speech = noise(0)
    heard = channel(QUIET)(speech, np.random.default_rng(0))
    assert heard / measure_rms(heard) == pytest.approx(speech / measure_rms(speech), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_each_effect_changes_the_voice(kind: str) -> None:
    speech = noise(0)
    heard = channel(QUIET.model_copy(update={kind: 1.0}))(speech, np.random.default_rng(0))
    assert np.corrcoef(speech, heard)[0, 1] < 0.999


def test_stages_come_in_the_order_of_a_call() -> None:
    names = [stage.name for stage in channel(EVERYTHING).stages]
    assert names == [
        "room", "noise", "babble", "equaliser", "level", "drift", "telephone", "codec",
        "packet_loss",
    ]  # fmt: skip
    assert [stage.name for stage in channel(QUIET).stages] == ["level"]
    alone = Channel(EVERYTHING, RATE_HZ, (), ())
    assert not {"noise", "babble"} & {stage.name for stage in alone.stages}


def test_silence_goes_through_every_effect() -> None:
    heard = channel(EVERYTHING)(np.zeros(8000, np.float32), np.random.default_rng(0))
    assert np.isfinite(heard).all()


@pytest.mark.parametrize("recipe", PINNED)
def test_the_first_recipes_still_hear_what_they_heard(recipe: str) -> None:
    chosen = config.load(recipe)
    send, speech = channel(chosen.augmentation), noise(0, 8000)
    for place, (left, level, sample) in enumerate(PINNED[recipe]):
        rng = np.random.default_rng((chosen.seed, 7, place))
        heard = send(speech, rng)
        assert rng.integers(2**32) == left
        assert measure_rms(heard) == pytest.approx(level, rel=1e-3)
        assert heard[4000] == pytest.approx(sample, abs=1e-4)
