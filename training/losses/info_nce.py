"""InfoNCE over same-speaker pairs: van den Oord et al. 2018 (1807.03748); NT-Xent (2002.05709)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from training.losses.negatives import Negatives
from training.losses.pairs import mean_where, pair_masks
from training.losses.precision import in_float32
from training.losses.temperature import log_scale, scale_of


class InfoNce(nn.Module):
    """Each positive pair against the anchor's negatives, averaged over all ordered pairs.

    -log(exp(s_ap / t) / (exp(s_ap / t) + sum_n exp(s_an / t))): an anchor's other positives are
    left out of the denominator, so several clips of one speaker never repel each other. The
    temperature, fixed or learned, stays from 0.01 to 1. Zero, with zero gradient, when the batch
    has no positive pair or no negative.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.07,
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
        return mean_where(functional.softplus(against[:, None] - scale * cosines), positive)
