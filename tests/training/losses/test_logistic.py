from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from evaluation.metrics import Sweep, cllr
from tests.support.loss_comparison import UNEVEN, assert_matches, unlike
from training.losses.logistic import Logistic


def naive(points: Tensor, labels: list[int], scale: float, bias: float) -> Tensor:
    kinds: dict[bool, list[Tensor]] = {True: [], False: []}
    for i, a in enumerate(points):
        for j, b in enumerate(points):
            same = labels[i] == labels[j]
            if i != j:
                p_same = 1 / (1 + torch.exp(-scale * (a @ b) - bias))
                kinds[same].append(-torch.log(p_same if same else 1 - p_same))
    return sum(torch.stack(kind).mean() for kind in kinds.values()) / 2  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("scale", "bias"), [(10.0, -5.0), (3.0, 0.5)])
def test_matches_a_double_loop(scale: float, bias: float, seed: int) -> None:
    loss = Logistic(scale=scale, bias=bias)
    assert_matches(loss, lambda p, own: naive(p, own, scale, bias), UNEVEN, seed)


def test_is_the_cllr_of_its_own_ratios() -> None:
    points, labels = unlike(UNEVEN, 3), torch.tensor(UNEVEN)
    llr = (10.0 * (points @ points.T) - 5.0).detach().numpy()
    same = (labels[:, None] == labels).numpy()
    target = llr[same & ~torch.eye(len(UNEVEN), dtype=torch.bool).numpy()]
    assert Logistic()(points, labels).item() == pytest.approx(
        math.log(2) * cllr(Sweep.of(target, llr[~same])), rel=1e-5
    )


def test_scale_and_bias_calibrate_fixed_embeddings() -> None:
    points, labels = unlike(UNEVEN, 3).detach(), torch.tensor(UNEVEN)
    loss = Logistic(scale=1.0, bias=4.0)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.1)
    before = loss(points, labels).item()
    for _ in range(100):
        optimiser.zero_grad()
        loss(points, labels).backward()
        optimiser.step()
    assert before > math.log(2) > loss(points, labels).item()
