"""Which negatives an anchor is contrasted with: all, the hardest, those not suspected."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.losses.centroids import Centroids

LEFT_OUT = -1e4  # added to a score, which is 100 at most, it leaves exp at zero


@dataclass(frozen=True, slots=True)
class Choice:
    """How to choose among the negatives; by default all, alike.

    Of all negatives of the batch, those more similar than the `trusted_share` quantile are
    suspected to be the anchor's own voice under another label, as happens where labels are clips;
    a suspect counts `suspect_weight` times, 0 being left out, as in Huynh et al., WACV 2022
    (2011.11765). Of what is left each anchor keeps its `hardest` most similar negatives (ties
    too); few of many, from random weights, draw all voices to one point, so begin without.
    """

    hardest: int | None = None
    trusted_share: float = 1.0
    suspect_weight: float = 0.0

    def log_weights(self, cosines: Tensor, negative: Tensor) -> Tensor:
        """To be added to the scores: (batch, others) twice -> float32, 0 for a negative kept,
        LEFT_OUT for all that is no negative or not chosen."""
        suspect = self._suspects(cosines, negative)
        kept = negative & ~suspect if self.suspect_weight == 0 else negative
        if self.hardest is not None:
            kept = kept & self._hardest(cosines, kept, self.hardest)
        weight = math.log(self.suspect_weight) if self.suspect_weight else LEFT_OUT
        return torch.where(kept, torch.where(suspect, weight, 0.0), LEFT_OUT)

    def _suspects(self, cosines: Tensor, negative: Tensor) -> Tensor:
        similar = cosines[negative]
        trusted = math.ceil(self.trusted_share * len(similar))
        if trusted == len(similar):
            return torch.zeros_like(negative)
        threshold = similar.kthvalue(max(1, trusted)).values
        return negative & (cosines > threshold)

    @staticmethod
    def _hardest(cosines: Tensor, kept: Tensor, count: int) -> Tensor:
        ranked = cosines.masked_fill(~kept, -math.inf)
        least = ranked.topk(min(count, ranked.shape[1]), dim=1).values[:, -1:]
        return ranked >= least


ALL = Choice()


class Negatives(nn.Module):
    """What an anchor is contrasted with: log(sum over negatives n of weight_n exp(scale * s_an)).

    The negatives are the batch's other voices and, with a memory, the centroids of all others
    met before; the memory follows while training. Far below any score where there are none.
    """

    def __init__(self, choice: Choice = ALL, memory: Centroids | None = None) -> None:
        super().__init__()
        self.choice = choice
        self.memory = memory

    def forward(self, cosines: Tensor, embeddings: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
        """(batch, batch), (batch, dim), (batch,) and a scalar -> (batch,)."""
        negative = labels[:, None] != labels
        if self.memory is not None:
            cosines = torch.cat([cosines, embeddings @ self.memory.centroids.T], dim=1)
            negative = torch.cat([negative, self.memory.others(labels)], dim=1)
            if self.training:
                self.memory.follow(embeddings, labels)
        return (scale * cosines + self.choice.log_weights(cosines, negative)).logsumexp(dim=1)
