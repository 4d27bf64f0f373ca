"""Relational distillation: the student's cosines between clips are those of the teacher."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Relational(nn.Module):
    """Mean square difference of the cosines of all pairs of a batch, between embeddings
    (batch, dim) and between targets (batch, target_dim).

    Verification compares cosines, and these do not depend on how the two spaces are turned, so
    no map is needed. Computed in float32. Park et al. 2019 (arXiv 1904.05068).
    """

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        batch = len(embeddings)
        learned = functional.normalize(embeddings.float(), dim=1)
        taught = functional.normalize(targets.float(), dim=1)
        difference = learned @ learned.T - taught @ taught.T  # (batch, batch), its diagonal zero
        return difference.square().sum() / (batch * (batch - 1))
