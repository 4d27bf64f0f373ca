from __future__ import annotations

import itertools

import numpy as np
import pytest

from training.augment.packets import conceal, draw_lost_packets


@pytest.mark.parametrize(("share", "burst"), [(0.02, 1.0), (0.1, 1.5), (0.1, 4.0)])
def test_losses_have_their_share_and_their_bursts(share: float, burst: float) -> None:
    lost = draw_lost_packets(60000, share, burst, np.random.default_rng(0))
    runs = [len(list(run)) for gone, run in itertools.groupby(lost) if gone]
    assert lost.mean() == pytest.approx(share, rel=0.1)
    assert np.mean(runs) == pytest.approx(burst, rel=0.1)


def test_nothing_is_lost_at_a_share_of_none() -> None:
    assert not draw_lost_packets(1000, 0.0, 3.0, np.random.default_rng(0)).any()


def test_lost_packets_repeat_the_last_one_fading_to_silence() -> None:
    speech = np.repeat(np.arange(1, 10, dtype=np.float32), 4)
    lost = np.array([True, False, True, True, True, True, False, True])
    heard = conceal(speech, lost, 4).reshape(-1, 4)
    assert (heard == heard[:, :1]).all()
    expected = [0, 2, 2 * 0.6, 2 * 0.6**2, 2 * 0.6**3, 0, 7, 7 * 0.6, 9]
    assert heard[:, 0] == pytest.approx(expected)
    assert speech[0] == 1.0, "the speech given is left alone"
