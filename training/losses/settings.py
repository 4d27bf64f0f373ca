"""What a recipe says of each loss, and the module that it makes of it.

To add a loss, write its module in a file of its own and declare it here: everything else follows
from the subclasses of `LossSettings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

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
from training.section import Count, Positive, Section

Distance = Annotated[float, Field(gt=0, le=2)]
Temperature = Annotated[float, Field(ge=0.01, le=1)]
LearnedScale = Annotated[float, Field(ge=1, le=100)]

MINING = {"hard": BatchHardTriplet, "semi_hard": BatchSemiHardTriplet, "all": BatchAllTriplet}


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a loss may depend on beside its settings; `target_dim` is that of the teacher."""

    embedding_dim: int
    classes: int
    target_dim: int | None

    def require_targets(self) -> int:
        """Raise ConfigError when there is no teacher."""
        if self.target_dim is None:
            raise ConfigError("distillation needs the targets of `sayso-train teach`")
        return self.target_dim


class LossSettings(Section):
    """`takes_targets`: the loss compares with a teacher's targets, not with labels."""

    takes_targets: ClassVar[bool] = False

    name: str
    weight: Positive = 1.0

    def build(self, sizes: Sizes) -> nn.Module:
        raise NotImplementedError


class ContrastiveLoss(LossSettings):
    name: Literal["contrastive"]
    margin: Distance = 1.0

    def build(self, sizes: Sizes) -> nn.Module:
        return Contrastive(margin=self.margin)


class TripletLoss(LossSettings):
    name: Literal["triplet"]
    margin: Distance = 0.3
    mining: Literal["hard", "semi_hard", "all"] = "hard"

    def build(self, sizes: Sizes) -> nn.Module:
        return MINING[self.mining](margin=self.margin)


class NPairLoss(LossSettings):
    name: Literal["n_pair"]
    scale: Positive = 16.0

    def build(self, sizes: Sizes) -> nn.Module:
        return NPair(scale=self.scale)


class NegativeChoice(Section):
    """Which negatives count: see `training.losses.negatives`; with `memory_momentum` those of a
    memory of all voices as well."""

    hardest: Count | None = None
    trusted_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    suspect_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    memory_momentum: Annotated[float, Field(ge=0, lt=1)] | None = None

    def build(self, sizes: Sizes) -> Negatives:
        choice = Choice(self.hardest, self.trusted_share, self.suspect_weight)
        if self.memory_momentum is None:
            return Negatives(choice, None)
        memory = Centroids(
            voices=sizes.classes, embedding_dim=sizes.embedding_dim, momentum=self.memory_momentum
        )
        return Negatives(choice, memory)


class InfoNceLoss(LossSettings):
    name: Literal["info_nce"]
    temperature: Temperature = 0.07
    learned: bool = True
    negatives: NegativeChoice = NegativeChoice()

    def build(self, sizes: Sizes) -> nn.Module:
        return InfoNce(
            temperature=self.temperature,
            learned=self.learned,
            negatives=self.negatives.build(sizes),
        )


class SymmetricInfoNceLoss(LossSettings):
    name: Literal["symmetric_info_nce"]
    temperature: Temperature = 0.07
    learned: bool = True

    def build(self, sizes: Sizes) -> nn.Module:
        return SymmetricInfoNce(temperature=self.temperature, learned=self.learned)


class SupervisedContrastiveLoss(LossSettings):
    name: Literal["supervised_contrastive"]
    temperature: Temperature = 0.1
    learned: bool = False
    negatives: NegativeChoice = NegativeChoice()

    def build(self, sizes: Sizes) -> nn.Module:
        return SupervisedContrastive(
            temperature=self.temperature,
            learned=self.learned,
            negatives=self.negatives.build(sizes),
        )


class LogisticLoss(LossSettings):
    name: Literal["logistic"]
    scale: LearnedScale = 10.0
    bias: float = -5.0

    def build(self, sizes: Sizes) -> nn.Module:
        return Logistic(scale=self.scale, bias=self.bias)


class AngularPrototypicalLoss(LossSettings):
    name: Literal["angular_prototypical"]
    scale: LearnedScale = 10.0

    def build(self, sizes: Sizes) -> nn.Module:
        return AngularPrototypical(scale=self.scale)


class Ge2eLoss(LossSettings):
    name: Literal["ge2e"]
    scale: LearnedScale = 10.0

    def build(self, sizes: Sizes) -> nn.Module:
        return Ge2e(scale=self.scale)


class AamSoftmaxLoss(LossSettings):
    name: Literal["aam_softmax"]
    scale: Positive = 30.0
    margin: Annotated[float, Field(ge=0, lt=1.5)] = 0.2
    margin_warmup_steps: Annotated[int, Field(ge=0)] = 0
    subcentres: Count = 1

    def build(self, sizes: Sizes) -> nn.Module:
        return AamSoftmax(
            embedding_dim=sizes.embedding_dim,
            classes=sizes.classes,
            scale=self.scale,
            margin=self.margin,
            margin_warmup_steps=self.margin_warmup_steps,
            subcentres=self.subcentres,
        )


class DistillationLoss(LossSettings):
    """Needs the targets that `sayso-train teach` makes of another model; with `mapped` a linear map
    leads to them also where the dimensions agree."""

    takes_targets: ClassVar[bool] = True

    name: Literal["distillation"]
    mapped: bool = False

    def build(self, sizes: Sizes) -> nn.Module:
        return Distillation(
            embedding_dim=sizes.embedding_dim,
            target_dim=sizes.require_targets(),
            mapped=self.mapped,
        )


class RelationalLoss(LossSettings):
    """Needs targets as well: the cosines between clips are to be those of the other model."""

    takes_targets: ClassVar[bool] = True

    name: Literal["relational"]

    def build(self, sizes: Sizes) -> nn.Module:
        sizes.require_targets()
        return Relational()


if TYPE_CHECKING:
    Loss = LossSettings
else:  # any of the declared ones, told apart by its name
    declared = reduce(or_, LossSettings.__subclasses__())
    Loss = Annotated[declared, Field(discriminator="name")]
