"""SimCLR: Chen, Kornblith, Norouzi and Hinton, ICML 2020, arXiv 2002.05709."""

from __future__ import annotations

from torch import nn
from torch.nn import functional

from training.data.batches import Batch
from training.encoders import SpeakerEncoder
from training.frameworks.framework import Framework, Outcome, mixed_precision
from training.losses import WeightedSum
from training.ranks import Ranks


class SimClr(Framework):
    """Views of one clip, each through a channel of its own, belong together; nobody says who.

    The labels are clips, so the recipe's InfoNCE is the paper's NT-Xent. `head`, the projection
    (batch, dim) -> (batch, dim) that the paper compares views through and then leaves off, may be
    the identity. Across ranks the views of all are negatives.
    """

    def __init__(self, objective: WeightedSum, head: nn.Module, ranks: Ranks) -> None:
        super().__init__()
        self.objective = objective
        self.head = head
        self.ranks = ranks

    def step(self, encoder: SpeakerEncoder, batch: Batch) -> Outcome:
        # 1. views to embeddings: (batch, dim)
        with mixed_precision(batch.waveforms.device):
            embeddings = encoder(batch.waveforms)

        # 2. through the head, at unit length again, and everyone's
        projected = self.ranks.join(functional.normalize(self.head(embeddings), dim=1))

        # 3. NT-Xent: a view finds the others of its clip among all views
        loss, parts = self.objective(projected, self.ranks.join(batch.labels))
        return Outcome(loss, parts, (embeddings.detach(), batch.labels))


def projection(dim: int, hidden: int) -> nn.Module:
    """Two layers, as in the paper; the identity when `hidden` is 0."""
    if hidden == 0:
        return nn.Identity()
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))
