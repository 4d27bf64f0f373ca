from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.loss_comparison import MIXED, assert_matches
from training.losses.ge2e import Ge2e


def naive(points: Tensor, labels: list[int], scale: float) -> Tensor:
    voices = sorted(set(labels))
    terms = []
    for i, point in enumerate(points):
        scores = {}
        for voice in voices:
            members = [p for j, p in enumerate(points) if labels[j] == voice and j != i]
            centroid = sum(members) / len(members)
            cosine = point @ centroid / torch.linalg.vector_norm(centroid)
            scores[voice] = torch.exp(scale * cosine)
        terms.append(-torch.log(scores[labels[i]] / sum(scores.values())))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("labels", [MIXED, [3, 3, 8, 8, 5, 5]])
def test_matches_a_double_loop(labels: list[int], scale: float, seed: int) -> None:
    assert_matches(Ge2e(scale=scale), lambda p, own: naive(p, own, scale), labels, seed)
