"""Supervised contrastive loss, the sum outside the logarithm: Khosla et al. 2020 (2004.11362)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.losses.negatives import LEFT_OUT, Negatives
from training.losses.pairs import mean_where, pair_masks
from training.losses.precision import in_float32
from training.losses.temperature import log_scale, scale_of


class SupervisedContrastive(nn.Module):
    """-log(exp(s_ap / t) / sum over all others), averaged over an anchor's positives p, then over
    the anchors that have positives and negatives.

    Unlike InfoNCE, positives share the denominator. The temperature, fixed or learned, stays from
    0.01 to 1. Zero, with zero gradient, when no anchor has both.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        learned: bool = False,
        negatives: Negatives | None = None,
    ) -> None:
        super().__init__()
        self.log_scale = log_scale(1.0 / temperature, learned=learned)
        self.negatives = negatives or Negatives()

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        scale = scale_of(self.log_scale)
        cosines = embeddings @ embeddings.T  # (batch, batch)
        against = self.negatives(cosines, embeddings, labels, scale)  # (batch,)
        positive, _ = pair_masks(labels)
        scores = scale * cosines
        together = scores.masked_fill(~positive, LEFT_OUT).logsumexp(dim=1)
        to_own = torch.where(positive, scores, 0.0).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
        has_both = positive.any(dim=1) & (against > LEFT_OUT / 2)
        return mean_where(torch.logaddexp(together, against) - to_own, has_both)
