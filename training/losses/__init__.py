"""Objectives: embeddings (batch, dim) of unit length and labels (batch,) to a scalar.

embeddings ─ precision ─> unit length, float32, no autocast
labels ─ pairs ─> who belongs together ─ negatives, centroids ─> which others count
                       one file a loss ─> scalar ─ by weight ─> total, parts
settings     what a recipe says of each: the one place where a loss is declared
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from training.losses.settings import Sizes

if TYPE_CHECKING:
    from training.config import Recipe


class WeightedSum(nn.Module):
    """The recipe's losses by weight: -> (scalar total, each unweighted by name, detached).

    Those named in `on_targets` are given the batch's targets (batch, target_dim), every other loss
    its labels.
    """

    def __init__(
        self,
        losses: dict[str, nn.Module],
        weights: dict[str, float],
        on_targets: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(losses)
        self.weights = weights
        self.on_targets = frozenset(on_targets)

    def forward(
        self, embeddings: Tensor, labels: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        parts = {
            name: cast("Tensor", loss(embeddings, targets if name in self.on_targets else labels))
            for name, loss in self.losses.items()
        }
        total = embeddings.new_zeros(())
        for name, part in parts.items():
            total = total + self.weights[name] * part
        return total, {name: part.detach() for name, part in parts.items()}


def build(recipe: Recipe, classes: int, target_dim: int | None = None) -> WeightedSum:
    """ConfigError when the recipe distils and there are no targets."""
    sizes = Sizes(recipe.encoder.embedding_dim, classes, target_dim)
    return WeightedSum(
        {loss.name: loss.build(sizes) for loss in recipe.losses},
        {loss.name: loss.weight for loss in recipe.losses},
        [loss.name for loss in recipe.losses if loss.takes_targets],
    )
