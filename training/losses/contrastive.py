"""The contrastive loss of Siamese networks: Hadsell, Chopra and LeCun, CVPR 2006."""

from __future__ import annotations

from torch import Tensor, nn

from training.losses.pairs import distances, mean_where, pair_masks, square_distances
from training.losses.precision import in_float32


class Contrastive(nn.Module):
    """Half the squared distance of positive pairs, half max(0, margin - distance) squared of
    negative ones: the mean of each kind, added, so that the many negatives do not outweigh.

    Zero, with zero gradient, unless the batch has pairs of both kinds: either alone would draw
    all voices to one point or push all views apart.
    """

    def __init__(self, *, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        positive, negative = pair_masks(labels)
        together = mean_where(square_distances(embeddings), positive)
        apart = mean_where((self.margin - distances(embeddings)).clamp(min=0).square(), negative)
        return 0.5 * (together + apart) * (positive.any() & negative.any())
