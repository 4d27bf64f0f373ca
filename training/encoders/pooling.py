"""Statistics over time, of any number of frames: Okabe, Koshinaka and Shinoda, Interspeech 2018."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.encoders.tdnn import ConvBlock

VARIANCE_FLOOR = 1e-4


def mean_and_deviation(hidden: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted over time, (batch, channels, frames) -> two of (batch, channels, 1), float32."""
    hidden, weights = hidden.float(), weights.float()
    mean = (hidden * weights).sum(dim=2, keepdim=True)
    variance = ((hidden - mean).square() * weights).sum(dim=2, keepdim=True)
    return mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()


def uniform(hidden: Tensor) -> Tensor:
    """The weights of a plain mean over time, (batch, 1, frames)."""
    return torch.ones_like(hidden[:, :1]) / hidden.shape[2]


class Statistics(nn.Module):
    """Mean and deviation of every channel: (batch, channels, frames) -> (batch, 2 * channels)."""

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.cat(mean_and_deviation(hidden, uniform(hidden)), dim=1).squeeze(2)


class AttentiveStatistics(nn.Module):
    """The same, weighed by a channel's own attention over time: -> (batch, 2 * channels).

    With `context`, attention also sees the utterance's mean and deviation, as in ECAPA-TDNN.
    """

    def __init__(self, channels: int, bottleneck: int = 128, *, context: bool = True) -> None:
        super().__init__()
        self.context = context
        self.attention = nn.Sequential(
            ConvBlock((3 if context else 1) * channels, bottleneck),
            nn.Tanh(),
            nn.Conv1d(bottleneck, channels, 1),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        seen = self._with_context(hidden) if self.context else hidden
        weights = self.attention(seen).float().softmax(dim=2)  # (batch, channels, frames)
        return torch.cat(mean_and_deviation(hidden, weights), dim=1).squeeze(2)

    @staticmethod
    def _with_context(hidden: Tensor) -> Tensor:
        mean, deviation = mean_and_deviation(hidden, uniform(hidden))
        return torch.cat([hidden, mean.expand_as(hidden), deviation.expand_as(hidden)], dim=1)
