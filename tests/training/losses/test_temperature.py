from __future__ import annotations

import pytest
import torch

from tests.support.loss_comparison import unit_vectors
from training.losses.info_nce import InfoNce
from training.losses.supervised_contrastive import SupervisedContrastive
from training.losses.symmetric_info_nce import SymmetricInfoNce
from training.losses.temperature import log_scale, scale_of

LABELS = torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize("loss", [InfoNce, SymmetricInfoNce, SupervisedContrastive])
def test_is_learned_only_when_asked_and_clamped(
    loss: type[InfoNce | SymmetricInfoNce | SupervisedContrastive],
) -> None:
    points = unit_vectors(4)
    learned, fixed = (loss(temperature=0.1, learned=chosen) for chosen in (True, False))
    learned(points, LABELS).backward()
    assert learned.log_scale.grad is not None
    assert not fixed.log_scale.requires_grad
    for beyond, limit in ((1e-9, 0.01), (50.0, 1.0)):
        values = [loss(temperature=t)(points, LABELS).item() for t in (beyond, limit)]
        assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.parametrize(("start", "limit", "direction"), [(500.0, 100.0, 1), (0.01, 1.0, -1)])
def test_comes_back_from_its_limit(start: float, limit: float, direction: int) -> None:
    parameter = log_scale(start, learned=True)
    scale = scale_of(parameter)
    assert scale.item() == pytest.approx(limit)
    (direction * scale).backward()
    torch.optim.SGD([parameter], lr=1e-3).step()
    assert direction * (limit - scale_of(parameter).item()) > 0
