from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor

from tests.support.loss_comparison import UNEVEN, assert_matches, unlike
from training.losses.supervised_contrastive import SupervisedContrastive


def naive(points: Tensor, labels: list[int], temperature: float) -> Tensor:
    anchors = []
    for i, a in enumerate(points):
        others = [j for j in range(len(labels)) if j != i]
        total = torch.stack([torch.exp(a @ points[j] / temperature) for j in others]).sum()
        terms = [
            -torch.log(torch.exp(a @ points[j] / temperature) / total)
            for j in others
            if labels[j] == labels[i]
        ]
        if terms:
            anchors.append(torch.stack(terms).mean())
    return torch.stack(anchors).mean()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_matches_a_double_loop(temperature: float, seed: int) -> None:
    loss = SupervisedContrastive(temperature=temperature)
    assert_matches(loss, lambda p, own: naive(p, own, temperature), UNEVEN, seed)


def test_matches_the_library() -> None:
    points, labels = unlike(UNEVEN, 1), torch.tensor(UNEVEN)
    expected = SupConLoss(temperature=0.1)(points, labels)
    assert SupervisedContrastive()(points, labels).item() == pytest.approx(
        expected.item(), rel=1e-5
    )
