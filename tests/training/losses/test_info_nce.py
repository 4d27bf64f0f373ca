from __future__ import annotations

import math

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor
from torch.nn import functional

from tests.support.loss_comparison import UNEVEN, assert_matches, unit_vectors, unlike
from training.losses.info_nce import InfoNce


def naive(points: Tensor, labels: list[int], temperature: float) -> Tensor:
    terms = []
    for i, a in enumerate(points):
        others = [
            torch.exp(a @ n / temperature)
            for n, own in zip(points, labels, strict=True)
            if own != labels[i]
        ]
        for j, p in enumerate(points):
            if i != j and labels[i] == labels[j]:
                own = torch.exp(a @ p / temperature)
                terms.append(-torch.log(own / (own + torch.stack(others).sum())))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_matches_a_double_loop(temperature: float, seed: int) -> None:
    loss = InfoNce(temperature=temperature)
    assert_matches(loss, lambda p, own: naive(p, own, temperature), UNEVEN, seed)


def test_matches_the_library() -> None:
    points, labels = unlike(UNEVEN, 1), torch.tensor(UNEVEN)
    expected = NTXentLoss(temperature=0.07)(points, labels)
    assert InfoNce()(points, labels).item() == pytest.approx(expected.item(), rel=1e-5)


def test_of_pairs_is_cross_entropy_over_the_others() -> None:
    points, labels = unit_vectors(6), [0, 0, 1, 1, 2, 2]
    scores = (points @ points.T / 0.1).fill_diagonal_(-math.inf)
    expected = functional.cross_entropy(scores, torch.tensor([1, 0, 3, 2, 5, 4]))
    assert InfoNce(temperature=0.1)(points, torch.tensor(labels)).item() == pytest.approx(
        expected.item()
    )
