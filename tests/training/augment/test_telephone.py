from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.support.waveforms import RATE_HZ, noise, power_db
from training.augment import Waveform, measure_rms
from training.augment.telephone import a_law, mu_law, send_by_telephone


@pytest.mark.parametrize("law", [mu_law, a_law])
def test_companding_keeps_38_db_over_a_wide_range_and_is_monotonic(
    law: Callable[[Waveform], Waveform],
) -> None:
    for level in (0.3, 0.1, 0.03):
        tone = (level * np.sin(np.arange(8000) * 0.7)).astype(np.float32)
        error = law(tone) - tone
        assert 20 * np.log10(measure_rms(tone) / measure_rms(error)) > 36
    ramp = law(np.linspace(-1.2, 1.2, 100001, dtype=np.float32))
    assert (np.diff(ramp) >= 0).all()
    assert len(np.unique(ramp)) in (255, 256)
    assert np.abs(ramp).max() <= 1.0


@pytest.mark.parametrize("law", [mu_law, a_law])
def test_telephone_keeps_the_band_and_kills_what_is_above(
    law: Callable[[Waveform], Waveform],
) -> None:
    speech = noise(0, 16001)
    heard = send_by_telephone(speech, RATE_HZ, low_hz=300.0, high_hz=3400.0, companding=law)
    assert heard.shape == speech.shape
    assert power_db(heard, 1000, 3000) == pytest.approx(power_db(speech, 1000, 3000), abs=0.3)
    assert power_db(heard, 4005, 8000) < power_db(speech, 4005, 8000) - 60
    assert power_db(heard, 0, 100) < power_db(speech, 0, 100) - 25


def test_a_steep_edge_cuts_what_a_gentle_one_lets_through() -> None:
    speech = noise(0, 16001)

    def heard_db(order: float, low_hz: float, high_hz: float) -> float:
        edges = {"low_order": order, "high_order": order}
        sent = send_by_telephone(
            speech, RATE_HZ, low_hz=300.0, high_hz=3000.0, companding=mu_law, **edges
        )
        return power_db(sent, low_hz, high_hz) - power_db(speech, low_hz, high_hz)

    for outside in ((100, 250), (3300, 3900)):
        assert heard_db(2.0, *outside) > -15
        assert heard_db(40.0, *outside) < -25
    assert heard_db(40.0, 500, 2500) == pytest.approx(heard_db(4.0, 500, 2500), abs=0.3)
