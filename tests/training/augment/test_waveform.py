from __future__ import annotations

import numpy as np
import pytest

from training.augment.waveform import fit_length, wrap


@pytest.mark.parametrize("samples", [5, 12, 30])
def test_crops_wrap_and_keep_their_place(samples: int) -> None:
    audio = (np.arange(12) * 1000).astype(np.int16)
    cut = np.rint(wrap(audio, samples, 1.0) * 32768).astype(int)
    expected = [audio[(max(0, 12 - samples) + i) % 12] for i in range(samples)]
    assert cut.tolist() == expected


@pytest.mark.parametrize("samples", [3, 5, 8])
def test_lengths_are_brought_together(samples: int) -> None:
    fitted = fit_length(np.zeros(5, np.float32), np.ones(samples))
    assert fitted.tolist() == ([1.0] * samples + [0.0] * 5)[:5]
