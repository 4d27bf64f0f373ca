from __future__ import annotations

import pytest
import torch
from torch import nn

from training.encoders.pooling import (
    AttentiveStatistics,
    Statistics,
    mean_and_deviation,
    uniform,
)


def expected_statistics(hidden: torch.Tensor) -> torch.Tensor:
    return torch.cat([hidden.mean(dim=2), hidden.std(dim=2, correction=0)], dim=1)


def test_statistics_are_mean_and_deviation() -> None:
    hidden = torch.randn(2, 6, 40)
    assert torch.allclose(Statistics()(hidden), expected_statistics(hidden), atol=1e-5)


@pytest.mark.parametrize("context", [True, False])
def test_even_attention_gives_plain_statistics(context: bool) -> None:
    pool = AttentiveStatistics(6, context=context).eval()
    nn.init.zeros_(pool.linear2.weight)
    hidden = torch.randn(2, 6, 40)
    assert torch.allclose(pool(hidden), expected_statistics(hidden), atol=1e-5)


def test_attention_sees_mean_and_deviation_beside_every_frame() -> None:
    pool, hidden = AttentiveStatistics(6).eval(), torch.randn(3, 6, 40)
    context = torch.cat(mean_and_deviation(hidden, uniform(hidden)), dim=1).expand(-1, -1, 40)
    assert pool.norm is not None
    inner = pool.norm(pool.linear1(torch.cat([hidden, context], dim=1)).relu())
    weights = pool.linear2(inner.tanh()).softmax(dim=2)
    expected = torch.cat(mean_and_deviation(hidden, weights), dim=1).squeeze(2)
    assert torch.allclose(pool(hidden), expected, atol=1e-5)


def test_attention_on_one_frame_gives_that_frame_and_no_deviation() -> None:
    pool = AttentiveStatistics(1, bottleneck=1, context=False).eval()
    assert pool.linear1.bias is not None
    nn.init.ones_(pool.linear1.weight)
    nn.init.zeros_(pool.linear1.bias)
    nn.init.constant_(pool.linear2.weight, 200.0)
    hidden = torch.zeros(1, 1, 30)
    hidden[0, 0, 7] = 5.0
    mean, deviation = pool(hidden)[0]
    assert mean.item() == pytest.approx(5.0)
    assert deviation.item() == pytest.approx(0.01)


@pytest.mark.parametrize("context", [True, False])
def test_constant_frames_have_a_finite_gradient(context: bool) -> None:
    hidden = torch.ones(2, 6, 40, requires_grad=True)
    AttentiveStatistics(6, context=context)(hidden).sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()
