"""Logistic regression on the cosines of pairs: Heigold et al., ICASSP 2016 (1509.08062)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.losses.pairs import mean_where, pair_masks
from training.losses.precision import in_float32
from training.losses.temperature import log_scale, scale_of


class Logistic(nn.Module):
    """Cross-entropy of "same voice" by scale * cosine + bias, both learned, scale from 1 to 100.

    Over all pairs of the batch, as Zhai et al., ICCV 2023 (2303.15343); the mean of each kind
    weighs one half, so scale * cosine + bias is a log-likelihood ratio in nats and the loss is
    its Cllr, ln 2 for knowing nothing. Zero, with zero gradient, unless the batch has pairs of
    both kinds: either alone would only move the bias.
    """

    def __init__(self, *, scale: float = 10.0, bias: float = -5.0) -> None:
        super().__init__()
        self.log_scale = log_scale(scale, learned=True)
        self.bias = nn.Parameter(torch.tensor(bias))

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        llr = scale_of(self.log_scale) * (embeddings @ embeddings.T) + self.bias
        positive, negative = pair_masks(labels)
        missed = mean_where(functional.softplus(-llr), positive)
        accepted = mean_where(functional.softplus(llr), negative)
        return 0.5 * (missed + accepted) * (positive.any() & negative.any())
