"""A memory of voices: negatives from beyond the batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.losses.pairs import sum_by_voice


class Centroids(nn.Module):
    """A unit vector for each of `voices`, following the voice's embeddings with a momentum.

    After a batch a centroid is `momentum` times itself and the rest the mean of its views, made
    unit length; the first batch of a voice sets it. In the manner of the memory bank of Wu et
    al., CVPR 2018 (1805.01978), by voice instead of by example. Nothing is learned through it,
    and it is kept with the weights.
    """

    centroids: Tensor
    known: Tensor

    def __init__(self, *, voices: int, embedding_dim: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centroids", torch.zeros(voices, embedding_dim))
        self.register_buffer("known", torch.zeros(voices, dtype=torch.bool))

    def others(self, labels: Tensor) -> Tensor:
        """(batch,) -> (batch, voices) bool: known voices other than the label's."""
        voices = torch.arange(len(self.known), device=labels.device)
        return self.known & (labels[:, None] != voices)

    @torch.no_grad()
    def follow(self, embeddings: Tensor, labels: Tensor) -> None:
        """Move towards unit embeddings (batch, dim) of labels (batch,) below `voices`."""
        voices, voice = torch.unique(labels, return_inverse=True)
        latest = functional.normalize(sum_by_voice(embeddings, voice), dim=1)
        kept = self.centroids[voices]
        moved = functional.normalize(torch.lerp(latest, kept, self.momentum), dim=1)
        moved = torch.where(self.known[voices, None], moved, latest)
        self.centroids = self.centroids.index_copy(0, voices, moved)  # a graph may need the old
        self.known[voices] = True
