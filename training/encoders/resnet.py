"""ResNet34 on spectrograms: He et al. 2016, arXiv 1512.03385; for speakers with attentive
statistics as in Chung et al. 2020, arXiv 2003.11982, and Wang et al. 2023, arXiv 2210.17016."""

from __future__ import annotations

from torch import Tensor, nn

from training.encoders.pooling import AttentiveStatistics

DEPTHS = (3, 4, 6, 3)
Stride = tuple[int, int]


class Convolution(nn.Sequential):
    """A square convolution and batch norm: (batch, in, bands, frames) -> the same over `stride`,
    rounded up."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: Stride = (1, 1)) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )


class Residual(nn.Module):
    """Two convolutions and what they are added to, which is convolved where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: Stride = (1, 1)) -> None:
        super().__init__()
        self.change = nn.Sequential(
            Convolution(inputs, outputs, stride=stride), nn.ReLU(), Convolution(outputs, outputs)
        )
        same = inputs == outputs and stride == (1, 1)
        self.kept = nn.Identity() if same else Convolution(inputs, outputs, 1, stride)

    def forward(self, hidden: Tensor) -> Tensor:
        total: Tensor = self.change(hidden) + self.kept(hidden)
        return total.relu()


def stage(inputs: int, outputs: int, blocks: int, stride: Stride) -> nn.Sequential:
    """Residual blocks in a row, the first with the stride."""
    later = (Residual(outputs, outputs) for _ in range(blocks - 1))
    return nn.Sequential(Residual(inputs, outputs, stride), *later)


def bands_after(mels: int, *strides: int) -> int:
    """Of `mels` bands, those left by convolutions with these strides, each rounding up."""
    for stride in strides:
        mels = -(-mels // stride)
    return mels


class ResNet34(nn.Module):
    """(batch, mels, frames) -> (batch, embedding_dim), not normalised.

    `width` is that of the first of four stages, each twice as wide as the one before. A `stride` of
    2 in the first layer halves bands and frames, and quarters the work; the papers have 1.
    """

    def __init__(self, *, mels: int, width: int, stride: int, embedding_dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(Convolution(1, width, stride=(stride, stride)), nn.ReLU())
        widths = [width << index for index in range(len(DEPTHS))]
        self.stages = nn.Sequential(
            stage(width, width, DEPTHS[0], (1, 1)),
            *map(stage, widths, widths[1:], DEPTHS[1:], [(2, 2)] * 3),
        )
        channels = widths[-1] * bands_after(mels, stride, 2, 2, 2)
        self.frame_dim = channels
        self.pool = AttentiveStatistics(channels, context=False)
        self.head = nn.Sequential(
            nn.BatchNorm1d(2 * channels),
            nn.Linear(2 * channels, embedding_dim),
            nn.BatchNorm1d(embedding_dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.head(self.pool(self.frames(features)))
        return embedding

    def frames(self, features: Tensor) -> Tensor:
        """(batch, mels, frames) -> (batch, frame_dim, fewer frames), before pooling."""
        image: Tensor = self.stages(self.stem(features.unsqueeze(1)))
        return image.flatten(1, 2)  # from (batch, 8 * width, bands, frames)
