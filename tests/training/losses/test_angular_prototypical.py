from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.loss_comparison import MIXED, assert_matches
from training.losses.angular_prototypical import AngularPrototypical


def naive(points: Tensor, labels: list[int], scale: float) -> Tensor:
    voices = sorted(set(labels))
    views = {v: [p for p, own in zip(points, labels, strict=True) if own == v] for v in voices}
    terms = []
    for own in voices:
        scores = {}
        for other in voices:
            prototype = sum(views[other][:-1]) / len(views[other][:-1])
            cosine = views[own][-1] @ prototype / torch.linalg.vector_norm(prototype)
            scores[other] = torch.exp(scale * cosine)
        terms.append(-torch.log(scores[own] / sum(scores.values())))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("labels", [MIXED, [3, 3, 8, 8, 5, 5]])
def test_matches_a_double_loop(labels: list[int], scale: float, seed: int) -> None:
    loss = AngularPrototypical(scale=scale)
    assert_matches(loss, lambda p, own: naive(p, own, scale), labels, seed)
