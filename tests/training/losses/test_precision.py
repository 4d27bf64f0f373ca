from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.support.loss_comparison import unit_vectors
from training.losses.precision import in_float32


class Gram(nn.Module):
    """No loss, but what a loss sees."""

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return embeddings @ embeddings.T


def test_rounded_embeddings_are_unit_vectors_again() -> None:
    halved = unit_vectors(64).detach().bfloat16()
    assert (halved.double().norm(dim=1) - 1).abs().max() > 1e-3
    lengths = Gram()(halved, torch.zeros(64)).diagonal()
    assert torch.allclose(lengths, torch.ones(64), atol=1e-6)


def test_products_are_float32_under_autocast() -> None:
    points = unit_vectors(8).detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert (points @ points.T).dtype == torch.bfloat16
        inside = Gram()(points, torch.zeros(8))
    assert torch.equal(inside, Gram()(points, torch.zeros(8)))
