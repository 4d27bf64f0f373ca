"""The time-delay layer: Peddinti, Povey and Khudanpur, Interspeech 2015."""

from __future__ import annotations

from torch import nn


class ConvBlock(nn.Sequential):
    """Convolution, ReLU, batch norm: (batch, in, frames) -> (batch, out, ceil(frames / stride))."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1, stride: int = 1
    ) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(
            nn.Conv1d(inputs, outputs, kernel, stride, padding, dilation),
            nn.ReLU(),
            nn.BatchNorm1d(outputs),
        )
