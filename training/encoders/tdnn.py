"""The time-delay layer: Peddinti, Povey and Khudanpur, Interspeech 2015."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Padding = Literal["zeros", "reflect"]


class ConvBlock(nn.Module):
    """Convolution, ReLU, batch norm: (batch, in, frames) -> (batch, out, ceil(frames / stride))."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        mode: Padding = padding if kernel > 1 else "zeros"
        self.conv = nn.Conv1d(
            inputs, outputs, kernel, stride, padding=kernel // 2, padding_mode=mode
        )
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        normalized: Tensor = self.bn(self.conv(hidden).relu())
        return normalized
