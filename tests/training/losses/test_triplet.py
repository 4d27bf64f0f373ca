from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor, nn

from tests.support.loss_comparison import UNEVEN, assert_matches, unlike
from training.losses.triplet import BatchAllTriplet, BatchHardTriplet, BatchSemiHardTriplet


def distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a - b)


def sides(points: Tensor, labels: list[int], i: int) -> tuple[list[Tensor], list[Tensor]]:
    """Distances of example i to its positives and to its negatives."""
    others = [j for j in range(len(labels)) if j != i]
    return (
        [distance(points[i], points[j]) for j in others if labels[j] == labels[i]],
        [distance(points[i], points[j]) for j in others if labels[j] != labels[i]],
    )


def naive_hard(points: Tensor, labels: list[int], margin: float) -> Tensor:
    terms = []
    for i in range(len(labels)):
        positives, negatives = sides(points, labels, i)
        if positives and negatives:
            terms.append((margin + max(positives) - min(negatives)).clamp(min=0))
    return torch.stack(terms).mean()


def naive_semi_hard(points: Tensor, labels: list[int], margin: float) -> Tensor:
    terms = []
    for i in range(len(labels)):
        positives, negatives = sides(points, labels, i)
        for to_positive in positives:
            beyond = [far for far in negatives if far > to_positive]
            to_negative = min(beyond) if beyond else max(negatives)
            terms.append((margin + to_positive - to_negative).clamp(min=0))
    return torch.stack(terms).mean()


def naive_all(points: Tensor, labels: list[int], margin: float) -> Tensor:
    terms = []
    for i in range(len(labels)):
        positives, negatives = sides(points, labels, i)
        terms += [margin + near - far for near in positives for far in negatives]
    return torch.stack([term for term in terms if term > 0]).mean()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("margin", [0.2, 0.5, 1.0])
@pytest.mark.parametrize(
    ("loss", "naive"),
    [
        (BatchHardTriplet, naive_hard),
        (BatchSemiHardTriplet, naive_semi_hard),
        (BatchAllTriplet, naive_all),
    ],
)
def test_matches_a_double_loop(
    loss: type[nn.Module], naive: Callable[..., Tensor], margin: float, seed: int
) -> None:
    assert_matches(loss(margin=margin), lambda p, own: naive(p, own, margin), UNEVEN, seed)


def test_batch_all_matches_the_library() -> None:
    points, labels = unlike(UNEVEN, 1), torch.tensor(UNEVEN)
    expected = TripletMarginLoss(margin=0.4)(points, labels)
    assert BatchAllTriplet(margin=0.4)(points, labels).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_batch_hard_matches_the_library() -> None:
    points, labels = unlike(UNEVEN, 1), torch.tensor(UNEVEN)
    mined = BatchHardMiner()(points, labels)
    expected = TripletMarginLoss(margin=0.4, reducer=MeanReducer())(points, labels, mined)
    assert BatchHardTriplet(margin=0.4)(points, labels).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_batch_all_is_zero_once_every_triplet_is_beyond_the_margin() -> None:
    points = torch.eye(2).repeat_interleave(2, dim=0).requires_grad_()
    value = BatchAllTriplet(margin=1.0)(points, torch.tensor([0, 0, 1, 1]))
    value.backward()
    assert value.item() == 0.0
    assert points.grad is not None
    assert not points.grad.any()
