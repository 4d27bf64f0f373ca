"""Triplets mined in a batch: Schroff et al. 2015 (1503.03832), Hermans et al. 2017 (1703.07737)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training.losses.pairs import distances, mean_where, pair_masks
from training.losses.precision import in_float32


class BatchHardTriplet(nn.Module):
    """max(0, margin + farthest positive - nearest negative), averaged over anchors with both.

    Zero, with zero gradient, when no anchor has both.
    """

    def __init__(self, *, margin: float = 0.3) -> None:
        super().__init__()
        self.margin = margin

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        distance = distances(embeddings)
        positive, negative = pair_masks(labels)
        farthest = distance.masked_fill(~positive, -math.inf).amax(dim=1)
        nearest = distance.masked_fill(~negative, math.inf).amin(dim=1)
        anchors = positive.any(dim=1) & negative.any(dim=1)
        return mean_where((self.margin + farthest - nearest).clamp(min=0.0), anchors)


class BatchSemiHardTriplet(nn.Module):
    """For every positive pair, the nearest negative that is farther than the positive.

    When every negative is nearer, the farthest one. Averaged over all pairs that have a
    negative; zero, with zero gradient, when there is none.
    """

    def __init__(self, *, margin: float = 0.3) -> None:
        super().__init__()
        self.margin = margin

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        distance = distances(embeddings)
        positive, negative = pair_masks(labels)
        pairs = positive & negative.any(dim=1, keepdim=True)
        if not pairs.any():
            return distance.sum() * 0.0
        anchor, _ = pairs.nonzero(as_tuple=True)
        to_positive = distance[pairs][:, None]  # (pairs, 1)
        to_others = distance[anchor]  # (pairs, batch)
        semi_hard = negative[anchor] & (to_others > to_positive)
        nearest_beyond = to_others.masked_fill(~semi_hard, math.inf).amin(dim=1)
        farthest = to_others.masked_fill(~negative[anchor], -math.inf).amax(dim=1)
        to_negative = torch.where(semi_hard.any(dim=1), nearest_beyond, farthest)
        return (self.margin + to_positive[:, 0] - to_negative).clamp(min=0.0).mean()


class BatchAllTriplet(nn.Module):
    """max(0, margin + positive - negative) of every triplet, averaged over those not zero.

    Zero, with zero gradient, when no triplet is within the margin or there is none.
    """

    def __init__(self, *, margin: float = 0.3) -> None:
        super().__init__()
        self.margin = margin

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        distance = distances(embeddings)
        positive, negative = pair_masks(labels)
        anchor, _ = positive.nonzero(as_tuple=True)
        short = self.margin + distance[positive][:, None] - distance[anchor]  # (pairs, batch)
        return mean_where(short, negative[anchor] & (short > 0))
