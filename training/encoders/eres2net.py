"""ERes2NetV2 (Chen et al. 2024, arXiv 2406.02167) as 3D-Speaker lays it out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.encoders.pooling import Statistics
from training.encoders.resnet import SegmentLayers, bands_after

_DEPTHS = (3, 4, 6, 3)
_CEILING = 20.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a block's first stage: `width` channels in each of `groups`, `expansion` times `planes`
    at its end."""

    planes: int
    width: int
    groups: int
    expansion: int


def clip(hidden: Tensor) -> Tensor:
    """ReLU with a ceiling of 20."""
    return hidden.clamp(0.0, _CEILING)


class Fusion(nn.Module):
    """Two inputs weighed by attention that sees both (attentional feature fusion)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        self.local_att = nn.Sequential(
            nn.Conv2d(2 * channels, inner, 1),
            nn.BatchNorm2d(inner),
            nn.SiLU(),
            nn.Conv2d(inner, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        lean = self.local_att(torch.cat([left, right], dim=1)).tanh()
        fused: Tensor = left * (1 + lean) + right * (1 - lean)
        return fused


class Res2Block(nn.Module):
    """A residual block whose groups are convolved in turn, each given its predecessor's output:
    added to it, or fused with it."""

    def __init__(self, inputs: int, sizes: Sizes, factor: int, stride: int, *, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        width, groups = sizes.width * factor, sizes.groups
        outputs = sizes.planes * factor * sizes.expansion
        self.conv1 = nn.Conv2d(inputs, width * groups, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width * groups)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(groups)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(groups))
        if fused:
            self.fuse_models = nn.ModuleList(Fusion(width) for _ in range(groups - 1))
        self.conv3 = nn.Conv2d(width * groups, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, hidden: Tensor) -> Tensor:
        groups = clip(self.bn1(self.conv1(hidden))).chunk(len(self.convs), dim=1)
        outputs: list[Tensor] = []
        for index, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            outputs.append(clip(bn(conv(self._input(index, groups[index], outputs)))))
        residual = self.bn3(self.conv3(torch.cat(outputs, dim=1)))
        return clip(residual + self.shortcut(hidden))

    def _input(self, index: int, group: Tensor, outputs: list[Tensor]) -> Tensor:
        if not outputs:
            return group
        if not self.fused:
            return outputs[-1] + group
        fused: Tensor = self.fuse_models[index - 1](outputs[-1], group)
        return fused


class ERes2NetV2(SegmentLayers):
    """(batch, mels, frames) -> (batch, embedding_dim), not normalized."""

    def __init__(self, sizes: Sizes, *, mels: int, embedding_dim: int, two: bool) -> None:
        super().__init__()
        planes = sizes.planes
        self.conv1 = nn.Conv2d(1, planes, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        inputs = planes
        for index, blocks in enumerate(_DEPTHS):
            factor, fused = 1 << index, index >= 2
            outputs = planes * factor * sizes.expansion
            stride = 2 if index else 1
            first = Res2Block(inputs, sizes, factor, stride, fused=fused)
            later = [Res2Block(outputs, sizes, factor, 1, fused=fused) for _ in range(blocks - 1)]
            self.add_module(f"layer{index + 1}", nn.Sequential(first, *later))
            inputs = outputs
        self.layer3_ds = nn.Conv2d(inputs // 2, inputs, 3, 2, padding=1, bias=False)
        self.fuse34 = Fusion(inputs)
        self.pool = Statistics(floor=1e-8, unbiased=True)
        self._add_segment_layers(2 * inputs * bands_after(mels, 2, 2, 2), embedding_dim, two=two)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(features.unsqueeze(1))).relu()
        for name in ("layer1", "layer2", "layer3"):
            hidden = self.get_submodule(name)(hidden)
        last = self.get_submodule("layer4")(hidden)
        fused = self.fuse34(last, self.layer3_ds(hidden))  # (batch, channels, bands, frames)
        return self._embed(self.pool(fused.flatten(1, 2)))
