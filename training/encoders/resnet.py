"""ResNet on spectrograms: He et al. 2016, arXiv 1512.03385; for speakers with statistics over time
as in Zeinali et al. 2019, arXiv 1910.12592, attentive ones as in Chung et al. 2020, arXiv
2003.11982, and Wang et al. 2023, arXiv 2210.17016.

Modules are named as in WeSpeaker's checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from training.encoders.pooling import AttentiveStatistics, Statistics

DEPTHS_34 = (3, 4, 6, 3)
Stride = int | tuple[int, int]


class Block(nn.Module):
    """Convolutions with batch norm, the sum with a shortcut, ReLU."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: Stride = 1) -> None:
        super().__init__()
        self._add_convolutions(inputs, width, stride)
        outputs = self.expansion * width
        self.shortcut = nn.Sequential()
        if stride not in (1, (1, 1)) or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def _add_convolutions(self, inputs: int, width: int, stride: Stride) -> None:
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def _residual(self, hidden: Tensor) -> Tensor:
        residual: Tensor = self.bn2(self.conv2(self.bn1(self.conv1(hidden)).relu()))
        return residual

    def forward(self, hidden: Tensor) -> Tensor:
        total: Tensor = self._residual(hidden) + self.shortcut(hidden)
        return total.relu()


class Bottleneck(Block):
    """The same around a narrow 3 x 3."""

    expansion = 4

    def _add_convolutions(self, inputs: int, width: int, stride: Stride) -> None:
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)

    def _residual(self, hidden: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(hidden)).relu()
        residual: Tensor = self.bn3(self.conv3(self.bn2(self.conv2(hidden)).relu()))
        return residual


def stage(
    block: type[Block], inputs: int, width: int, *, blocks: int, stride: Stride
) -> nn.Sequential:
    """`blocks` in a row, the first with the stride."""
    outputs = block.expansion * width
    later = [block(outputs, width) for _ in range(blocks - 1)]
    return nn.Sequential(block(inputs, width, stride), *later)


def bands_after(mels: int, *strides: int) -> int:
    """Of `mels` bands, those left by convolutions with these strides, each rounding up."""
    for stride in strides:
        mels = -(-mels // stride)
    return mels


class ResNet(nn.Module):
    """The stages alone: (batch, mels, frames) -> (batch, frame_dim, fewer frames).

    `width` is that of the first of four stages, each twice as wide as the one before. A `stride` of
    2 in the first layer halves bands and frames, and quarters the work; the papers have 1.
    """

    def __init__(
        self,
        *,
        mels: int,
        width: int,
        stride: int = 1,
        block: type[Block] = Block,
        depths: Sequence[int] = DEPTHS_34,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for index, blocks in enumerate(depths):
            layer = stage(block, inputs, width << index, blocks=blocks, stride=2 if index else 1)
            self.add_module(f"layer{index + 1}", layer)
            inputs = (width << index) * block.expansion
        self.frame_dim = inputs * bands_after(mels, stride, 2, 2, 2)

    def frames(self, features: Tensor) -> Tensor:
        """(batch, mels, frames) -> (batch, frame_dim, fewer frames), before pooling."""
        hidden: Tensor = self.bn1(self.conv1(features.unsqueeze(1))).relu()
        for name in ("layer1", "layer2", "layer3", "layer4"):
            hidden = self.get_submodule(name)(hidden)  # (batch, channels, bands, frames)
        return hidden.flatten(1, 2)


class ResNet34(ResNet):
    """This project's: (batch, mels, frames) -> (batch, embedding_dim), not normalized."""

    def __init__(self, *, mels: int, width: int, stride: int = 1, embedding_dim: int) -> None:
        super().__init__(mels=mels, width=width, stride=stride)
        self.pool = AttentiveStatistics(self.frame_dim, context=False)
        self.bn = nn.BatchNorm1d(2 * self.frame_dim)
        self.linear = nn.Linear(2 * self.frame_dim, embedding_dim)
        self.output_norm = nn.BatchNorm1d(embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.linear(self.bn(self.pool(self.frames(features))))
        normalized: Tensor = self.output_norm(embedding)
        return normalized


class SegmentLayers(nn.Module):
    """WeSpeaker's layers after pooling: one, or two with ReLU and batch norm between."""

    seg_1: nn.Linear
    seg_bn_1: nn.BatchNorm1d
    seg_2: nn.Linear

    def _add_segment_layers(self, inputs: int, embedding_dim: int, *, two: bool) -> None:
        self.two = two
        self.seg_1 = nn.Linear(inputs, embedding_dim)
        if two:
            self.seg_bn_1 = nn.BatchNorm1d(embedding_dim, affine=False)
            self.seg_2 = nn.Linear(embedding_dim, embedding_dim)

    def _embed(self, statistics: Tensor) -> Tensor:
        embedding: Tensor = self.seg_1(statistics)
        if self.two:
            embedding = self.seg_2(self.seg_bn_1(embedding.relu()))
        return embedding


class WeSpeakerResNet(ResNet, SegmentLayers):
    """WeSpeaker's: (batch, mels, frames) -> (batch, embedding_dim), not normalized."""

    def __init__(
        self,
        *,
        mels: int,
        width: int,
        stride: int = 1,
        embedding_dim: int,
        block: type[Block] = Block,
        depths: Sequence[int] = DEPTHS_34,
        two: bool = False,
    ) -> None:
        super().__init__(mels=mels, width=width, stride=stride, block=block, depths=depths)
        self.pool = Statistics(floor=1e-8, unbiased=True)
        self._add_segment_layers(2 * self.frame_dim, embedding_dim, two=two)

    def forward(self, features: Tensor) -> Tensor:
        return self._embed(self.pool(self.frames(features)))
