from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.augment.masks import Masks


def hidden(masks: Masks, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return masks(torch.ones(64, 20, 50)) == 0


def longest_run(row: Tensor) -> int:
    return max(len(run) for run in "".join("x" if on else " " for on in row).split(" "))


def test_bands_and_stretches_are_hidden_within_their_widths() -> None:
    bands = hidden(Masks(bands=1, band_mels=6, stretches=0, stretch_frames=9))
    assert (bands.all(dim=2) == bands.any(dim=2)).all(), "a band is hidden at all times"
    assert {longest_run(row) for row in bands[:, :, 0]} == set(range(7))
    assert set(bands[:, :, 0].sum(dim=1).tolist()) == set(range(7)), "one run each"
    times = hidden(Masks(bands=0, band_mels=6, stretches=1, stretch_frames=9))
    assert (times.all(dim=1) == times.any(dim=1)).all(), "a stretch is hidden in all mels"
    assert set(times[:, 0].sum(dim=1).tolist()) <= set(range(10))
    assert bands[:, 0].any()
    assert bands[:, -1].any()


def test_every_example_is_masked_anew_from_the_seed() -> None:
    masks = Masks(bands=2, band_mels=4, stretches=2, stretch_frames=5)
    assert torch.equal(hidden(masks), hidden(masks))
    assert not torch.equal(hidden(masks), hidden(masks, 1))
    assert len({tuple(row.flatten().tolist()) for row in hidden(masks)}) > 60


@pytest.mark.parametrize("widest", [20, 1000])
def test_widths_beyond_the_features_are_no_error(widest: int) -> None:
    hidden(Masks(bands=1, band_mels=widest, stretches=1, stretch_frames=widest))


def test_nothing_is_hidden_or_drawn_in_evaluation() -> None:
    masks = Masks(bands=2, band_mels=4, stretches=2, stretch_frames=5).eval()
    before = torch.get_rng_state()
    assert not hidden(masks).any()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    masks(torch.ones(2, 20, 50))
    assert torch.equal(before, torch.get_rng_state())
