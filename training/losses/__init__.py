"""Objectives: embeddings (batch, dim) of unit length and labels (batch,) to a scalar."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from training.config import AamSoftmaxLoss, InfoNceLoss, Recipe, TripletLoss
from training.losses.aam_softmax import AamSoftmax
from training.losses.info_nce import InfoNce
from training.losses.triplet import BatchHardTriplet, BatchSemiHardTriplet

MINING = {"hard": BatchHardTriplet, "semi_hard": BatchSemiHardTriplet}


def _build_one(
    settings: TripletLoss | InfoNceLoss | AamSoftmaxLoss, dim: int, classes: int
) -> nn.Module:
    match settings:
        case TripletLoss():
            return MINING[settings.mining](margin=settings.margin)
        case InfoNceLoss():
            return InfoNce(temperature=settings.temperature, learned=settings.learned)
        case AamSoftmaxLoss():
            return AamSoftmax(
                embedding_dim=dim,
                classes=classes,
                scale=settings.scale,
                margin=settings.margin,
                margin_warmup_steps=settings.margin_warmup_steps,
            )


class WeightedSum(nn.Module):
    """The recipe's losses by weight: -> (scalar total, each unweighted by name, detached)."""

    def __init__(self, losses: dict[str, nn.Module], weights: dict[str, float]) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(losses)
        self.weights = weights

    def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        parts = {
            name: cast("Tensor", loss(embeddings, labels)) for name, loss in self.losses.items()
        }
        total = embeddings.new_zeros(())
        for name, part in parts.items():
            total = total + self.weights[name] * part
        return total, {name: part.detach() for name, part in parts.items()}


def build(recipe: Recipe, classes: int) -> WeightedSum:
    dim = recipe.encoder.embedding_dim
    return WeightedSum(
        {loss.name: _build_one(loss, dim, classes) for loss in recipe.losses},
        {loss.name: loss.weight for loss in recipe.losses},
    )
