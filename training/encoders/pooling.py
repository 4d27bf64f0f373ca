"""Statistics over time, of any number of frames: Okabe, Koshinaka and Shinoda, Interspeech 2018."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

VARIANCE_FLOOR = 1e-4


def mean_and_deviation(
    hidden: Tensor, weights: Tensor, *, floor: float = VARIANCE_FLOOR, unbiased: bool = False
) -> tuple[Tensor, Tensor]:
    """Weighted over time, (batch, channels, frames) -> two of (batch, channels, 1), float32.

    `floor` is the least variance; an `unbiased` one is divided by one frame less, which is for
    uniform weights alone.
    """
    hidden, weights = hidden.float(), weights.float()
    mean = (hidden * weights).sum(dim=2, keepdim=True)
    variance = ((hidden - mean).square() * weights).sum(dim=2, keepdim=True)
    if unbiased:
        frames = hidden.shape[2]
        variance = variance * frames / (frames - 1)
    return mean, variance.clamp(min=floor).sqrt()


def uniform(hidden: Tensor) -> Tensor:
    """The weights of a plain mean over time, (batch, 1, frames)."""
    return torch.ones_like(hidden[:, :1]) / hidden.shape[2]


class Statistics(nn.Module):
    """Mean and deviation of every channel: (batch, channels, frames) -> (batch, 2 * channels)."""

    def __init__(self, *, floor: float = VARIANCE_FLOOR, unbiased: bool = False) -> None:
        super().__init__()
        self.floor = floor
        self.unbiased = unbiased

    def forward(self, hidden: Tensor) -> Tensor:
        moments = mean_and_deviation(
            hidden, uniform(hidden), floor=self.floor, unbiased=self.unbiased
        )
        return torch.cat(moments, dim=1).squeeze(2)


class AttentiveStatistics(nn.Module):
    """The same, weighted by a channel's own attention over time: -> (batch, 2 * channels).

    With `context`, attention also sees the utterance's mean and deviation, as in ECAPA-TDNN;
    `normalized` puts ReLU and batch norm into it. An `unbiased` deviation is that of the context.
    """

    def __init__(
        self,
        channels: int,
        bottleneck: int = 128,
        *,
        context: bool = True,
        normalized: bool = True,
        floor: float = VARIANCE_FLOOR,
        unbiased: bool = False,
    ) -> None:
        super().__init__()
        self.context = context
        self.floor = floor
        self.unbiased = unbiased
        self.linear1 = nn.Conv1d((3 if context else 1) * channels, bottleneck, 1)
        self.norm = nn.BatchNorm1d(bottleneck) if normalized else None
        self.linear2 = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        weights = self.scores(hidden).float().softmax(dim=2)  # (batch, channels, frames)
        return torch.cat(mean_and_deviation(hidden, weights, floor=self.floor), dim=1).squeeze(2)

    def scores(self, hidden: Tensor) -> Tensor:
        """The attention's logits, (batch, channels, frames)."""
        inner = self._contextual(hidden) if self.context else self.linear1(hidden)
        if self.norm is not None:
            inner = self.norm(inner.relu())
        logits: Tensor = self.linear2(inner.tanh())
        return logits

    def _contextual(self, hidden: Tensor) -> Tensor:
        """`linear1` of `hidden` beside its mean and deviation.

        The two are the same in every frame, so they are convolved once and added.
        """
        channels = hidden.shape[1]
        weight, bias = self.linear1.weight, self.linear1.bias
        moments = mean_and_deviation(
            hidden, uniform(hidden), floor=self.floor, unbiased=self.unbiased
        )
        context = torch.cat(moments, dim=1).to(hidden.dtype)
        own = functional.conv1d(hidden, weight[:, :channels])
        return own + functional.conv1d(context, weight[:, channels:], bias)
