"""Waveform to embedding: front end, encoder, L2 normalisation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from training.config import Ecapa, Encoder, Recipe
from training.encoders.ecapa import EcapaTdnn
from training.frontend import LogMel


def _ecapa(settings: Ecapa, mels: int) -> nn.Module:
    return EcapaTdnn(
        mels=mels,
        width=settings.width,
        groups=settings.groups,
        stride=settings.stride,
        embedding_dim=settings.embedding_dim,
    )


ENCODERS: dict[type[Encoder], Callable[[Ecapa, int], nn.Module]] = {Ecapa: _ecapa}


class SpeakerEncoder(nn.Module):
    """waveform (batch, samples) float32 -> embedding (batch, dim) float32 of unit length."""

    def __init__(self, front_end: LogMel, encoder: nn.Module) -> None:
        super().__init__()
        self.front_end = front_end
        self.encoder = encoder

    def forward(self, waveform: Tensor) -> Tensor:
        features = self.front_end(waveform)  # (batch, mels, frames)
        return functional.normalize(self.encoder(features).float(), dim=1)


def build(recipe: Recipe) -> SpeakerEncoder:
    """The encoder a recipe asks for, its weights drawn from torch's global generator."""
    settings = recipe.front_end
    front_end = LogMel(
        sample_rate_hz=settings.sample_rate_hz,
        mels=settings.mels,
        low_hz=settings.low_hz,
        high_hz=settings.high_hz,
    )
    return SpeakerEncoder(front_end, ENCODERS[type(recipe.encoder)](recipe.encoder, settings.mels))
