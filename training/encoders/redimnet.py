"""ReDimNet (Yakovlev et al. 2024, arXiv 2407.18223) as WeSpeaker lays it out, B0 to B6.

One- and two-dimensional views of the same (channels x bands, frames): stages of two-dimensional
blocks that trade bands for channels, each given a learned mean of all before it, each followed by
a one-dimensional block over time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.encoders.pooling import AttentiveStatistics
from training.encoders.resnet import SegmentLayers

BlockKind = Literal["basic", "basic-excited", "convnext"]


@dataclass(frozen=True, slots=True)
class Stage:
    """`stride` over bands, `blocks` of `expansion` times the channels, then time at a
    `reduction`th of the width, or not at all."""

    stride: int
    blocks: int
    expansion: int
    reduction: int | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one of the published family; `divisor` channels make a group."""

    mels: int
    channels: int
    kind: BlockKind
    divisor: int
    context: bool
    stages: tuple[Stage, ...]


def _stages(*rows: tuple[int, int, int, int | None]) -> tuple[Stage, ...]:
    return tuple(Stage(*row) for row in rows)


_LARGE = _stages(
    (1, 4, 2, 48), (2, 4, 2, 48), (1, 6, 2, 48), (2, 6, 1, 32), (1, 8, 1, 24), (2, 4, 1, 16)
)
FAMILY: Mapping[str, Sizes] = {
    "b0": Sizes(
        60,
        10,
        "basic",
        1,
        True,
        _stages((1, 2, 1, 30), (2, 3, 2, 30), (1, 3, 3, 30), (2, 4, 2, 10), (1, 3, 1, 10)),
    ),
    "b1": Sizes(
        72,
        12,
        "convnext",
        8,
        False,
        _stages((1, 2, 1, None), (2, 3, 1, None), (3, 4, 1, 12), (2, 5, 1, 12), (2, 3, 1, 8)),
    ),
    "b2": Sizes(
        72,
        16,
        "convnext",
        4,
        True,
        _stages(
            (1, 2, 1, 12), (2, 2, 1, 12), (1, 3, 1, 12), (2, 4, 1, 8), (1, 4, 1, 8), (2, 4, 1, 4)
        ),
    ),
    "b3": Sizes(
        72,
        16,
        "basic-excited",
        1,
        True,
        _stages(
            (1, 6, 4, 32), (2, 6, 2, 32), (1, 8, 2, 32), (2, 10, 2, 16), (1, 10, 1, 16),
            (2, 8, 1, 16),
        ),
    ),
    "b4": Sizes(72, 32, "basic-excited", 1, True, _LARGE),
    "b5": Sizes(72, 32, "basic-excited", 16, True, _LARGE),
    "b6": Sizes(
        72,
        32,
        "basic",
        32,
        True,
        _stages(
            (1, 4, 4, 32), (2, 6, 2, 32), (1, 6, 2, 24), (3, 8, 1, 24), (1, 8, 1, 16), (2, 8, 1, 16)
        ),
    ),
}  # fmt: skip


class ChannelNorm(nn.Module):
    """Layer norm over the channels, which come second."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor) -> Tensor:
        centered = hidden - hidden.mean(dim=1, keepdim=True)
        unit = centered / (centered.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
        shape = (-1,) + (1,) * (hidden.ndim - 2)
        return self.weight.view(shape) * unit + self.bias.view(shape)


class ConvNext(nn.Module):
    """Grouped convolution, batch norm, GELU, pointwise convolution, the input added."""

    def __init__(self, channels: int, kernel: int, divisor: int, *, image: bool) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if image else (nn.Conv1d, nn.BatchNorm1d)
        grouped = conv(channels, channels, kernel, padding=kernel // 2, groups=channels // divisor)
        self.dwconvs = nn.ModuleList([grouped])
        self.norm = norm(channels)
        self.pwconv1 = conv(channels, channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        normalized = self.norm(self.dwconvs[0](hidden))
        total: Tensor = hidden + self.pwconv1(nn.functional.gelu(normalized))
        return total


class BandExcitation(nn.Module):
    """Band gains from the mean over channels and time."""

    def __init__(self, bands: int, bottleneck: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(bands, bottleneck)
        self.exitation = nn.Linear(bottleneck, bands)  # spelled as in the checkpoints

    def forward(self, hidden: Tensor) -> Tensor:
        gains = self.exitation(self.squeeze(hidden.mean(dim=(1, 3))).relu()).sigmoid()
        scaled: Tensor = hidden * gains[:, None, :, None]
        return scaled


class Basic(nn.Module):
    """Two grouped convolutions, each with a pointwise one, and batch norm; the input added."""

    def __init__(self, channels: int, bands: int, divisor: int, *, excited: bool) -> None:
        super().__init__()
        groups = channels // divisor
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False, groups=groups)
        self.conv1pw = nn.Conv2d(channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False, groups=groups)
        self.conv2pw = nn.Conv2d(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        bottleneck = min(64, max(channels, 32))
        self.se = BandExcitation(bands, bottleneck) if excited else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        residual = self.bn1(self.conv1pw(self.conv1(hidden)).relu())
        residual = self.se(self.bn2(self.conv2pw(self.conv2(residual))))
        total: Tensor = residual + hidden
        return total.relu()


class ImageBlock(nn.Module):
    def __init__(self, sizes: Sizes, channels: int, bands: int) -> None:
        super().__init__()
        self.conv_block: nn.Module
        if sizes.kind == "convnext":
            self.conv_block = ConvNext(channels, 3, sizes.divisor, image=True)
        else:
            excited = sizes.kind == "basic-excited"
            self.conv_block = Basic(channels, bands, sizes.divisor, excited=excited)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.conv_block(hidden)
        return output


class SelfAttention(nn.Module):
    HEADS = 4

    def __init__(self, width: int) -> None:
        super().__init__()
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.q_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        size = hidden.shape[2] // self.HEADS
        query = self._heads(self.q_proj(hidden) * size**-0.5)  # (batch, heads, frames, size)
        key, value = self._heads(self.k_proj(hidden)), self._heads(self.v_proj(hidden))
        seen = (query @ key.transpose(2, 3)).softmax(dim=3) @ value
        output: Tensor = self.out_proj(seen.transpose(1, 2).flatten(2))
        return output

    def _heads(self, projected: Tensor) -> Tensor:
        batch, frames, _ = projected.shape
        return projected.reshape(batch, frames, self.HEADS, -1).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(width, width)
        self.output_dense = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = nn.functional.gelu(self.intermediate_dense(hidden), approximate="tanh")
        output: Tensor = self.output_dense(inner)
        return output


class Transformer(nn.Module):
    """Normalised after each sum; (batch, width, frames) in and out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width)
        self.layer_norm = nn.LayerNorm(width, eps=1e-6)
        self.feed_forward = FeedForward(width)
        self.final_layer_norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, hidden: Tensor) -> Tensor:
        steps = hidden.transpose(1, 2)
        steps = self.layer_norm(steps + self.attention(steps))
        steps = self.final_layer_norm(steps + self.feed_forward(steps))
        output: Tensor = steps.transpose(1, 2)
        return output


class TimeContext(nn.Module):
    """Convolutions of growing length over time, then attention, at a reduced width."""

    KERNELS = (7, 19, 31, 59)

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        narrow = width // reduction
        self.red_dim_conv = nn.Sequential(nn.Conv1d(width, narrow, 1), ChannelNorm(narrow))
        convolved = (ConvNext(narrow, kernel, 1, image=False) for kernel in self.KERNELS)
        self.tcm = nn.Sequential(*convolved, Transformer(narrow))
        self.exp_dim_conv = nn.Conv1d(narrow, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        total: Tensor = hidden + self.exp_dim_conv(self.tcm(self.red_dim_conv(hidden)))
        return total


class Fold(nn.Module):
    """(batch, channels, bands, frames) -> (batch, bands * channels, frames)."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.transpose(1, 2).flatten(1, 2)


class Backbone(nn.Module):
    """(batch, 1, mels, frames) -> (batch, channels * mels, frames)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.channels * sizes.mels
        counts = range(2, len(sizes.stages) + 2)
        self.inputs_weights = nn.ParameterList(
            [torch.ones(1, 1, 1, 1), *(torch.zeros(1, count, width, 1) for count in counts)]
        )
        self.stem = nn.Sequential(
            nn.Conv2d(1, sizes.channels, 3, padding=1), ChannelNorm(sizes.channels)
        )
        self.bands: list[int] = []
        channels, bands = sizes.channels, sizes.mels
        for index, stage in enumerate(sizes.stages):
            self.bands.append(bands)
            bands //= stage.stride
            layers = _layers(sizes, stage, channels, bands)
            channels *= stage.stride
            self.add_module(f"stage{index}", nn.Sequential(*layers))

    def forward(self, image: Tensor) -> Tensor:
        outputs = [Fold()(self.stem(image))]
        for index, bands in enumerate(self.bands):
            mean = _weighted_mean(outputs, self.inputs_weights[index])
            view = mean.reshape(mean.shape[0], bands, -1, mean.shape[2]).transpose(1, 2)
            outputs.append(self.get_submodule(f"stage{index}")(view))
        return _weighted_mean(outputs, self.inputs_weights[-1])


def _layers(sizes: Sizes, stage: Stage, channels: int, bands: int) -> list[nn.Module]:
    wide, narrow = stage.stride * channels * stage.expansion, stage.stride * channels
    down = (stage.stride, 1)
    layers: list[nn.Module] = [nn.Conv2d(channels, wide, down, down)]
    layers += [ImageBlock(sizes, wide, bands) for _ in range(stage.blocks)]
    if stage.expansion != 1:
        layers.append(
            nn.Sequential(
                nn.Conv2d(wide, narrow, 3, padding=1, groups=narrow // sizes.divisor),
                nn.BatchNorm2d(narrow, eps=1e-6),
                nn.GELU(),
                nn.Conv2d(narrow, narrow, 1),
            )
        )
    layers.append(Fold())
    if stage.reduction is not None:
        layers.append(TimeContext(sizes.channels * sizes.mels, stage.reduction))
    return layers


def _weighted_mean(outputs: list[Tensor], logits: Tensor) -> Tensor:
    """The mean of `outputs` by the softmax of `logits` (1, outputs, width, 1)."""
    return (logits.softmax(dim=1) * torch.stack(outputs, dim=1)).sum(dim=1)


class ReDimNet(SegmentLayers):
    """(batch, mels, frames) -> (batch, embedding_dim), not normalized."""

    def __init__(self, sizes: Sizes, *, embedding_dim: int, two: bool) -> None:
        super().__init__()
        width = sizes.channels * sizes.mels
        self.backbone = Backbone(sizes)
        self.pool = AttentiveStatistics(
            width, context=sizes.context, normalized=False, floor=1e-10, unbiased=True
        )
        self._add_segment_layers(2 * width, embedding_dim, two=two)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.backbone(features.unsqueeze(1))
        return self._embed(self.pool(hidden))
