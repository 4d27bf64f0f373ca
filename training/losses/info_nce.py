"""InfoNCE over same-speaker pairs: van den Oord et al. 2018 (1807.03748); NT-Xent (2002.05709)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LARGEST_SCALE = 100.0


class InfoNce(nn.Module):
    """Each positive pair against the anchor's negatives, averaged over all ordered pairs.

    -log(exp(s_ap / t) / (exp(s_ap / t) + sum_n exp(s_an / t))): an anchor's other positives are
    left out of the denominator, so several clips of one speaker never repel each other. A
    learned temperature stays at or above 0.01. Zero, with zero gradient, when the batch has no
    positive pair or a single speaker.
    """

    def __init__(self, *, temperature: float = 0.07, learned: bool = False) -> None:
        super().__init__()
        scale = torch.tensor(math.log(1.0 / temperature))
        self.log_scale = nn.Parameter(scale, requires_grad=learned)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        scale = self.log_scale.clamp(max=math.log(LARGEST_SCALE)).exp()
        scores = scale * (embeddings @ embeddings.T)  # (batch, batch)
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        if not positive.any() or same.all():
            return scores.sum() * 0.0
        negatives = scores.masked_fill(same, -math.inf).logsumexp(dim=1, keepdim=True)
        return functional.softplus(negatives - scores)[positive].mean()
