from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.reducers import DoNothingReducer
from torch import Tensor

from tests.support.loss_comparison import UNEVEN, assert_matches, unlike
from training.losses.contrastive import Contrastive


def naive(points: Tensor, labels: list[int], margin: float) -> Tensor:
    together, apart = [], []
    for i, a in enumerate(points):
        for j, b in enumerate(points):
            distance = torch.linalg.vector_norm(a - b)
            if i != j and labels[i] == labels[j]:
                together.append(distance**2 / 2)
            elif i != j:
                apart.append((margin - distance).clamp(min=0) ** 2 / 2)
    return torch.stack(together).mean() + torch.stack(apart).mean()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_matches_a_double_loop(margin: float, seed: int) -> None:
    assert_matches(Contrastive(margin=margin), lambda p, own: naive(p, own, margin), UNEVEN, seed)


def test_matches_the_library_pair_by_pair() -> None:
    points, labels = unlike(UNEVEN, 1), torch.tensor(UNEVEN)
    parts = ContrastiveLoss(neg_margin=1.5, reducer=DoNothingReducer())(points, labels)
    together, apart = (parts[kind]["losses"].square().mean() for kind in ("pos_loss", "neg_loss"))
    assert Contrastive(margin=1.5)(points, labels).item() == pytest.approx(
        (together + apart).item() / 2, rel=1e-5
    )
