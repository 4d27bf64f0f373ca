"""Made embeddings, and the comparison of a loss with a naive one in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

UNEVEN = [0, 0, 0, 1, 1, 2, 3, 3, 3, 3]
MIXED = [7, 2, 5, 2, 5, 5, 7, 2, 9, 9]  # two views or more of each, in no order

Naive = Callable[[Tensor, list[int]], Tensor]


def unit_vectors(count: int, dim: int = 6, seed: int = 0) -> Tensor:
    drawn = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(drawn, dim=1).requires_grad_()


def unlike(labels: list[int], seed: int) -> Tensor:
    """Embeddings with a direction for each label, so that some pairs are easy and some hard."""
    drawn = torch.randn(10, 6, generator=torch.Generator().manual_seed(seed + 100))
    points = drawn[labels] + unit_vectors(len(labels), seed=seed).detach() * 2.5
    return functional.normalize(points, dim=1).requires_grad_()


def assert_matches(loss: nn.Module, naive: Naive, labels: list[int], seed: int) -> None:
    """Value and gradient, on float32 embeddings against the same in float64."""
    points = unlike(labels, seed)
    value = loss(points, torch.tensor(labels))
    value.backward()
    exact = points.detach().double().requires_grad_()
    expected = naive(functional.normalize(exact, dim=1), labels)
    expected.backward()
    assert expected.item() > 0.0
    assert value.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    assert points.grad is not None
    assert exact.grad is not None
    assert torch.allclose(points.grad.double(), exact.grad, rtol=1e-3, atol=1e-4)
