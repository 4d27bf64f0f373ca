"""ResNet as WeSpeaker lays it out (He et al. 2016; Zeinali et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from exporters.sources.pooling import mean_and_deviation


class Block(nn.Module):
    """Convolutions with batch norm, the sum with a shortcut, ReLU."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int | tuple[int, int] = 1) -> None:
        super().__init__()
        self._convolutions(inputs, width, stride)
        outputs = self.expansion * width
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def _convolutions(self, inputs: int, width: int, stride: int | tuple[int, int]) -> None:
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

    def _convolutions(self, inputs: int, width: int, stride: int | tuple[int, int]) -> None:
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
    block: type[Block], inputs: int, width: int, *, blocks: int, stride: int | tuple[int, int]
) -> nn.Sequential:
    """`blocks` in a row, the first with the stride."""
    outputs = block.expansion * width
    later = [block(outputs, width) for _ in range(blocks - 1)]
    return nn.Sequential(block(inputs, width, stride), *later)


class TwoLayers(nn.Module):
    """One linear layer, or two with ReLU and batch norm between: `seg_1`, `seg_bn_1`, `seg_2`."""

    seg_1: nn.Linear

    def _head(self, inputs: int, dimension: int, *, two: bool) -> None:
        self.two = two
        self.seg_1 = nn.Linear(inputs, dimension)
        if two:
            self.seg_bn_1 = nn.BatchNorm1d(dimension, affine=False)
            self.seg_2 = nn.Linear(dimension, dimension)

    def _embedded(self, statistics: Tensor) -> Tensor:
        embedding: Tensor = self.seg_1(statistics)
        if self.two:
            embedding = self.seg_2(self.seg_bn_1(embedding.relu()))
        return embedding


class ResNet(TwoLayers):
    """(batch, frames, mels) -> (batch, dimension)."""

    def __init__(
        self,
        block: type[Block],
        depths: Sequence[int],
        *,
        width: int,
        mels: int,
        dimension: int,
        two: bool,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for index, blocks in enumerate(depths):
            stride, planes = (2 if index else 1), width << index
            self.add_module(
                f"layer{index + 1}", stage(block, inputs, planes, blocks=blocks, stride=stride)
            )
            inputs = planes * block.expansion
        self._head(2 * inputs * (mels // 8), dimension, two=two)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(features.transpose(1, 2).unsqueeze(1))).relu()
        for name in ("layer1", "layer2", "layer3", "layer4"):
            hidden = self.get_submodule(name)(hidden)  # (batch, width, mels / 8, frames / 8)
        return self._embedded(mean_and_deviation(hidden))
