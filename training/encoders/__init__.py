"""Waveform to embedding: front end, encoder, L2 normalization.

An encoder is written once, its modules named as in published checkpoints, and trained, adopted and
exported alike; `names` maps the names that others have given to the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import functional

from training import config, frontends
from training.augment.masks import Masks
from training.encoders.campplus import CamPlusPlus
from training.encoders.ecapa import EcapaTdnn
from training.encoders.resnet import ResNet34, WeSpeakerResNet
from training.frontends.log_mel import HOP_S

RESNETS: Mapping[str, Callable[..., nn.Module]] = {
    "sayso": ResNet34,
    "wespeaker": WeSpeakerResNet,
}


def _resnet34(*, layout: str, **options: int) -> nn.Module:
    return RESNETS[layout](**options)


ENCODERS: Mapping[type[config.Encoder], Callable[..., nn.Module]] = {
    config.Ecapa: EcapaTdnn,
    config.ResNet34: _resnet34,
    config.CamPlusPlus: CamPlusPlus,
}


class SpeakerEncoder(nn.Module):
    """waveform (batch, samples) float32 -> embedding (batch, dim) float32 of unit length.

    `front_end` makes features (batch, mels, frames); `masks` hide some of them while training.
    """

    def __init__(
        self, front_end: nn.Module, encoder: nn.Module, masks: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.front_end = front_end
        self.masks = masks if masks is not None else nn.Identity()
        self.encoder = encoder

    def forward(self, waveform: Tensor) -> Tensor:
        features = self.masks(self.front_end(waveform))  # (batch, mels, frames)
        return functional.normalize(self.encoder(features).float(), dim=1)


def _masks(settings: config.Augmentation) -> Masks | None:
    if not settings.band_masks and not settings.stretch_masks:
        return None
    return Masks(
        bands=settings.band_masks,
        band_mels=settings.band_mask_mels,
        stretches=settings.stretch_masks,
        stretch_frames=max(1, round(settings.stretch_mask_s / HOP_S)),
    )


def build(recipe: config.Recipe) -> SpeakerEncoder:
    """The encoder a recipe asks for, its weights drawn from torch's global generator."""
    options = recipe.encoder.model_dump(exclude={"name"})
    encoder = ENCODERS[type(recipe.encoder)](mels=recipe.front_end.mels, **options)
    return SpeakerEncoder(frontends.build(recipe.front_end), encoder, _masks(recipe.augmentation))
