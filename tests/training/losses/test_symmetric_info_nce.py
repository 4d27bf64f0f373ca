from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.loss_comparison import MIXED, assert_matches, unlike
from training.losses.n_pair import NPair
from training.losses.symmetric_info_nce import SymmetricInfoNce


def naive(points: Tensor, labels: list[int], temperature: float) -> Tensor:
    voices = sorted(set(labels))
    enrolled = {v: points[labels.index(v)] for v in voices}
    tested = {v: points[labels.index(v, labels.index(v) + 1)] for v in voices}
    terms = []
    for own in voices:
        for here, there in ((enrolled, tested), (tested, enrolled)):
            total = torch.zeros((), dtype=torch.float64)
            for other in voices:
                total = total + torch.exp(here[own] @ there[other] / temperature)
            terms.append(total.log() - here[own] @ there[own] / temperature)
    return torch.stack(terms).mean()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_matches_a_double_loop(temperature: float, seed: int) -> None:
    loss = SymmetricInfoNce(temperature=temperature)
    assert_matches(loss, lambda p, own: naive(p, own, temperature), MIXED, seed)


def test_is_the_n_pair_loss_in_both_directions() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    points = unlike(labels.tolist(), 2)
    swapped = points[[1, 0, 3, 2, 5, 4]]
    both = [NPair(scale=10.0)(view, labels).item() for view in (points, swapped)]
    assert both[0] != pytest.approx(both[1])
    value = SymmetricInfoNce(temperature=0.1)(points, labels)
    assert value.item() == pytest.approx(sum(both) / 2)
