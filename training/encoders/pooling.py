"""Statistics over time, of any number of frames: Okabe, Koshinaka and Shinoda, Interspeech 2018."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        scores = self._contextual(hidden) if self.context else self.attention(hidden)
        weights = scores.float().softmax(dim=2)  # (batch, channels, frames)
        return torch.cat(mean_and_deviation(hidden, weights), dim=1).squeeze(2)

    def _contextual(self, hidden: Tensor) -> Tensor:
        """Attention to `hidden` beside its mean and deviation, which are the same in every frame:
        the first convolution takes them once, and its sum with that of `hidden` is the whole."""
        block, *others = self.attention
        assert isinstance(block, ConvBlock), "attention begins with one"
        convolution, *rest = block
        assert isinstance(convolution, nn.Conv1d), "and that with a convolution"
        channels = hidden.shape[1]
        own, told = convolution.weight[:, :channels], convolution.weight[:, channels:]
        context = torch.cat(mean_and_deviation(hidden, uniform(hidden)), dim=1).to(hidden.dtype)
        scores = functional.conv1d(hidden, own)
        scores = scores + functional.conv1d(context, told, convolution.bias)
        for layer in (*rest, *others):
            scores = layer(scores)
        return scores
