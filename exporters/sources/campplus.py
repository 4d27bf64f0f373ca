"""CAM++ (Wang et al. 2023, arXiv 2303.00332) as 3D-Speaker and WeSpeaker lay it out."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters.sources.pooling import mean_and_deviation
from exporters.sources.resnet import Block

_SEGMENT_FRAMES = 100
_BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers and dilation


def normalised(channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


class Head(nn.Module):
    """Two-dimensional convolutions that leave time alone: (batch, mels, frames) ->
    (batch, 32 * mels / 8, frames)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        down = (2, 1)
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Block(width, width, down), Block(width, width))
        self.layer2 = nn.Sequential(Block(width, width, down), Block(width, width))
        self.conv2 = nn.Conv2d(width, width, 3, down, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(features.unsqueeze(1))).relu()
        hidden = self.layer2(self.layer1(hidden))
        folded: Tensor = self.bn2(self.conv2(hidden)).relu().flatten(1, 2)
        return folded


class Convolved(nn.Module):
    """The first layer in time, which halves the frames."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(inputs, outputs, 5, stride=2, padding=2, bias=False)
        self.nonlinear = normalised(outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.nonlinear(self.linear(hidden))
        return output


class ContextMask(nn.Module):
    """A convolution masked by the mean of the utterance and of each segment of 100 frames."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(inputs, inputs // 2, 1)
        self.linear2 = nn.Conv1d(inputs // 2, outputs, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        context = hidden.mean(dim=2, keepdim=True) + _segment_means(hidden)
        mask = self.linear2(self.linear1(context).relu()).sigmoid()
        masked: Tensor = self.linear_local(hidden) * mask
        return masked


def _segment_means(hidden: Tensor) -> Tensor:
    """Each frame's segment's mean; the last segment is what frames are left for it."""
    padded = functional.pad(hidden, (0, _SEGMENT_FRAMES - 1))
    ones = functional.pad(torch.ones_like(hidden[:1, :1]), (0, _SEGMENT_FRAMES - 1))
    filled = functional.avg_pool1d(ones, _SEGMENT_FRAMES, _SEGMENT_FRAMES)
    means = functional.avg_pool1d(padded, _SEGMENT_FRAMES, _SEGMENT_FRAMES) / filled
    spread = means.unsqueeze(3).expand(-1, -1, -1, _SEGMENT_FRAMES).flatten(2)
    return spread[:, :, : hidden.shape[2]]


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = normalised(inputs)
        self.linear1 = nn.Conv1d(inputs, 4 * growth, 1, bias=False)
        self.nonlinear2 = normalised(4 * growth)
        self.cam_layer = ContextMask(4 * growth, growth, dilation)

    def forward(self, hidden: Tensor) -> Tensor:
        grown: Tensor = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(hidden))))
        return grown


class DenseBlock(nn.Module):
    """Layers that each add `growth` channels to all before them: `tdnnd1`, `tdnnd2`, ..."""

    def __init__(self, layers: int, inputs: int, growth: int, dilation: int) -> None:
        super().__init__()
        for index in range(layers):
            layer = DenseLayer(inputs + index * growth, growth, dilation)
            self.add_module(f"tdnnd{index + 1}", layer)

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.children():
            hidden = torch.cat([hidden, layer(hidden)], dim=1)
        return hidden


class Transit(nn.Module):
    """Halves the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.nonlinear = normalised(channels)
        self.linear = nn.Conv1d(channels, channels // 2, 1, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.linear(self.nonlinear(hidden))
        return output


class Statistics(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return mean_and_deviation(hidden, floor=0.0)


class Embedding(nn.Module):
    def __init__(self, inputs: int, dimension: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(inputs, dimension, 1, bias=False)
        self.nonlinear = nn.Sequential(
            OrderedDict(batchnorm=nn.BatchNorm1d(dimension, affine=False))
        )

    def forward(self, statistics: Tensor) -> Tensor:
        embedding: Tensor = self.nonlinear(self.linear(statistics.unsqueeze(2)).squeeze(2))
        return embedding


class CamPlusPlus(nn.Module):
    """(batch, frames, mels) -> (batch, dimension)."""

    def __init__(self, *, mels: int, dimension: int, width: int = 128, growth: int = 32) -> None:
        super().__init__()
        self.head = Head()
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["tdnn"] = Convolved(32 * (mels // 8), width)
        channels = width
        for index, (layers, dilation) in enumerate(_BLOCKS, start=1):
            parts[f"block{index}"] = DenseBlock(layers, channels, growth, dilation)
            channels += layers * growth
            parts[f"transit{index}"] = Transit(channels)
            channels //= 2
        parts["out_nonlinear"] = normalised(channels)
        parts["stats"] = Statistics()
        parts["dense"] = Embedding(2 * channels, dimension)
        self.xvector = nn.Sequential(parts)

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.xvector(self.head(features.transpose(1, 2)))
        return embedding
