"""Objectives: embeddings (batch, dim) of unit length and labels (batch,) to a scalar.

embeddings ─ precision ─> unit length, float32, no autocast
labels ─ pairs ─> who belongs together ─ negatives, centroids ─> which others count
                       one file a loss ─> scalar ─ by weight ─> total, parts
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from training.config import (
    AamSoftmaxLoss,
    AngularPrototypicalLoss,
    ContrastiveLoss,
    DistillationLoss,
    Ge2eLoss,
    InfoNceLoss,
    LogisticLoss,
    Loss,
    NegativeChoice,
    NPairLoss,
    Recipe,
    RelationalLoss,
    SupervisedContrastiveLoss,
    SymmetricInfoNceLoss,
    TripletLoss,
)
from training.errors import ConfigError
from training.losses.aam_softmax import AamSoftmax
from training.losses.angular_prototypical import AngularPrototypical
from training.losses.centroids import Centroids
from training.losses.contrastive import Contrastive
from training.losses.distillation import Distillation
from training.losses.ge2e import Ge2e
from training.losses.info_nce import InfoNce
from training.losses.logistic import Logistic
from training.losses.n_pair import NPair
from training.losses.negatives import Choice, Negatives
from training.losses.relational import Relational
from training.losses.supervised_contrastive import SupervisedContrastive
from training.losses.symmetric_info_nce import SymmetricInfoNce
from training.losses.triplet import BatchAllTriplet, BatchHardTriplet, BatchSemiHardTriplet

DISTILS = (Distillation, Relational)
MINING = {"hard": BatchHardTriplet, "semi_hard": BatchSemiHardTriplet, "all": BatchAllTriplet}


def _negatives(settings: NegativeChoice, dim: int, classes: int) -> Negatives:
    momentum = settings.memory_momentum
    return Negatives(
        Choice(settings.hardest, settings.trusted_share, settings.suspect_weight),
        None
        if momentum is None
        else Centroids(voices=classes, embedding_dim=dim, momentum=momentum),
    )


def _build_distillation(
    settings: DistillationLoss | RelationalLoss, dim: int, target_dim: int | None
) -> nn.Module:
    if target_dim is None:
        raise ConfigError("distillation needs the targets of `sayso-train teach`")
    if isinstance(settings, RelationalLoss):
        return Relational()
    return Distillation(embedding_dim=dim, target_dim=target_dim, mapped=settings.mapped)


def _build_one(  # noqa: PLR0911 - one return a loss
    settings: Loss, dim: int, classes: int, target_dim: int | None
) -> nn.Module:
    match settings:
        case DistillationLoss() | RelationalLoss():
            return _build_distillation(settings, dim, target_dim)
        case ContrastiveLoss():
            return Contrastive(margin=settings.margin)
        case TripletLoss():
            return MINING[settings.mining](margin=settings.margin)
        case NPairLoss():
            return NPair(scale=settings.scale)
        case InfoNceLoss() | SupervisedContrastiveLoss():
            kind = InfoNce if isinstance(settings, InfoNceLoss) else SupervisedContrastive
            return kind(
                temperature=settings.temperature,
                learned=settings.learned,
                negatives=_negatives(settings.negatives, dim, classes),
            )
        case SymmetricInfoNceLoss():
            return SymmetricInfoNce(temperature=settings.temperature, learned=settings.learned)
        case LogisticLoss():
            return Logistic(scale=settings.scale, bias=settings.bias)
        case AngularPrototypicalLoss():
            return AngularPrototypical(scale=settings.scale)
        case Ge2eLoss():
            return Ge2e(scale=settings.scale)
        case AamSoftmaxLoss():
            return AamSoftmax(
                embedding_dim=dim,
                classes=classes,
                scale=settings.scale,
                margin=settings.margin,
                margin_warmup_steps=settings.margin_warmup_steps,
                subcentres=settings.subcentres,
            )


class WeightedSum(nn.Module):
    """The recipe's losses by weight: -> (scalar total, each unweighted by name, detached).

    Both kinds of distillation are given the batch's targets (batch, target_dim), every other loss
    its labels.
    """

    def __init__(self, losses: dict[str, nn.Module], weights: dict[str, float]) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(losses)
        self.weights = weights

    def forward(
        self, embeddings: Tensor, labels: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        parts = {
            name: cast("Tensor", loss(embeddings, targets if isinstance(loss, DISTILS) else labels))
            for name, loss in self.losses.items()
        }
        total = embeddings.new_zeros(())
        for name, part in parts.items():
            total = total + self.weights[name] * part
        return total, {name: part.detach() for name, part in parts.items()}


def build(recipe: Recipe, classes: int, target_dim: int | None = None) -> WeightedSum:
    """ConfigError when the recipe distils and there are no targets."""
    dim = recipe.encoder.embedding_dim
    return WeightedSum(
        {loss.name: _build_one(loss, dim, classes, target_dim) for loss in recipe.losses},
        {loss.name: loss.weight for loss in recipe.losses},
    )
