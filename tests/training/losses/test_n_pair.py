from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import NPairsLoss
from torch import Tensor

from tests.support.loss_comparison import MIXED, assert_matches, unlike
from training.losses.n_pair import NPair


def naive(points: Tensor, labels: list[int], scale: float) -> Tensor:
    voices = sorted(set(labels))
    first = {v: points[labels.index(v)] for v in voices}
    second = {v: points[labels.index(v, labels.index(v) + 1)] for v in voices}
    terms = []
    for own in voices:
        total = torch.ones((), dtype=torch.float64)
        for other in voices:
            if other != own:
                gap = first[own] @ second[other] - first[own] @ second[own]
                total = total + torch.exp(scale * gap)
        terms.append(total.log())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_matches_a_double_loop(scale: float, seed: int) -> None:
    assert_matches(NPair(scale=scale), lambda p, own: naive(p, own, scale), MIXED, seed)


def test_matches_the_library_on_pairs() -> None:
    labels = torch.tensor([4, 1, 2, 1, 4, 2])
    points = unlike(labels.tolist(), 1)
    anchors, positives = torch.tensor([1, 2, 0]), torch.tensor([3, 5, 4])
    library = NPairsLoss(distance=DotProductSimilarity(normalize_embeddings=False))
    expected = library(4.0 * points, labels, (anchors, positives, anchors, positives))
    assert NPair(scale=16.0)(points, labels).item() == pytest.approx(expected.item(), rel=1e-5)
