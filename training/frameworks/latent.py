"""Latent augmentation: what one voice's clips differ by, lent to voices with a single clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class LatentAugmentation(nn.Module):
    """Each embedding (dim,) whose voice has one clip in the batch gets a made companion.

    A memory keeps the last `size` differences between embeddings of two clips of one voice. One of
    them, drawn, is added to the lone embedding, and the sum, at unit length again, bears the same
    label. Nothing is learned through the difference. Until the memory has any, nothing is made.

    After Hariharan and Girshick 2017 (arXiv 1606.02819), who transfer variation within a class to
    classes with few examples; here without their learned generator, as the space is trained to
    make such differences alike.
    """

    differences: Tensor
    met: Tensor

    def __init__(self, *, embedding_dim: int, size: int, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("differences", torch.zeros(size, embedding_dim))
        self.register_buffer("met", torch.zeros((), dtype=torch.int64))

    def forward(self, embeddings: Tensor, labels: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, dim), (batch,), (batch,) -> (more, dim), (more,); made rows come last."""
        # 1. pairs of different clips of one voice, and who has no such pair
        same = labels[:, None] == labels[None, :]
        pairs = same & (clips[:, None] != clips[None, :])  # (batch, batch)
        alone = ~pairs.any(dim=1)

        # 2. a difference for each that is alone
        lent = self._draw(int(alone.sum()))
        combined = functional.normalize(embeddings[alone][: len(lent)] + lent, dim=1)

        # 3. the differences of this batch, for those to come
        first, second = pairs.nonzero(as_tuple=True)
        self._remember((embeddings[first] - embeddings[second]).detach())
        return torch.cat([embeddings, combined]), torch.cat([labels, labels[alone][: len(lent)]])

    def _draw(self, count: int) -> Tensor:
        """(count, dim), or (0, dim) from an empty memory; from the seed and what was met alone."""
        met = int(self.met)
        filled = min(met, len(self.differences))
        if filled == 0:
            return self.differences[:0]
        generator = torch.Generator().manual_seed(hash((self.seed, met)))
        chosen = torch.randint(filled, (count,), generator=generator)
        return self.differences[chosen.to(self.differences.device)].clone()

    @torch.no_grad()
    def _remember(self, differences: Tensor) -> None:
        newest = differences[-len(self.differences) :]
        places = (self.met + torch.arange(len(newest), device=newest.device)) % len(
            self.differences
        )
        self.differences[places] = newest
        self.met += len(newest)
