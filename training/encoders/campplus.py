"""CAM++, a densely connected TDNN with context-aware masking: Wang et al., Interspeech 2023,
arXiv 2303.00332.

Modules are named as in the checkpoints of 3D-Speaker and WeSpeaker.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.encoders.pooling import VARIANCE_FLOOR, Statistics
from training.encoders.resnet import Block, bands_after, stage

SEGMENT_FRAMES = 100
DILATIONS = (1, 2, 2)
LAYERS = (12, 24, 16)


@dataclass(frozen=True, slots=True)
class Layout:
    """In what implementations differ: a learned scale of the embedding's batch norm (`affine`),
    and how deviations are taken (see `training.encoders.pooling`)."""

    affine: bool = False
    floor: float = 1e-12
    unbiased: bool = True


LAYOUTS: Mapping[str, Layout] = {
    "sayso": Layout(affine=True, floor=VARIANCE_FLOOR, unbiased=False),
    "3d-speaker": Layout(),
}


def segment_means(hidden: Tensor) -> Tensor:
    """Over 100 frames each, the last over those that are left: (batch, channels, frames) ->
    (batch, channels, segments)."""
    missing = (0, SEGMENT_FRAMES - 1)
    sums = functional.avg_pool1d(functional.pad(hidden, missing), SEGMENT_FRAMES)
    filled = functional.pad(torch.ones_like(hidden[:1, :1]), missing)
    return sums / functional.avg_pool1d(filled, SEGMENT_FRAMES)


def spread(segments: Tensor, frames: int) -> Tensor:
    """Each segment's value at each of its frames: -> (batch, channels, frames)."""
    repeated = segments.unsqueeze(3).expand(-1, -1, -1, SEGMENT_FRAMES)
    return repeated.flatten(2)[:, :, :frames]


def norm_relu(channels: int) -> nn.Sequential:
    """Batch norm and ReLU."""
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


class Head(nn.Module):
    """Residual convolutions that leave an eighth of the bands: (batch, 1, mels, frames) ->
    (batch, width, bands, ceil(frames / stride))."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        down = (2, 1)
        self.conv1 = nn.Conv2d(1, width, 3, (1, stride), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = stage(Block, width, width, blocks=2, stride=down)
        self.layer2 = stage(Block, width, width, blocks=2, stride=down)
        self.conv2 = nn.Conv2d(width, width, 3, down, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(image)).relu()
        hidden = self.layer2(self.layer1(hidden))
        output: Tensor = self.bn2(self.conv2(hidden)).relu()
        return output


class TimeDelay(nn.Module):
    """The first layer over time, which halves the frames."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(inputs, outputs, 5, stride=2, padding=2, bias=False)
        self.nonlinear = norm_relu(outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.nonlinear(self.linear(hidden))
        return output


class ContextMask(nn.Module):
    """A convolution over time whose outputs are scaled by what its utterance and its segment sound
    like; the scale is computed once a segment, not once a frame, which comes to the same."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(inputs, inputs // 2, 1)
        self.linear2 = nn.Conv1d(inputs // 2, outputs, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        context = hidden.mean(dim=2, keepdim=True) + segment_means(hidden)
        masked: Tensor = self.linear_local(hidden) * spread(self.mask(context), hidden.shape[2])
        return masked

    def mask(self, context: Tensor) -> Tensor:
        """(batch, inputs, segments) -> (batch, outputs, segments), from 0 to 1."""
        scale: Tensor = self.linear2(self.linear1(context).relu()).sigmoid()
        return scale


class DenseLayer(nn.Module):
    """`growth` channels from all that came before: (batch, in, frames) -> (batch, growth, frames);
    the caller joins them to the input."""

    def __init__(self, inputs: int, growth: int, dilation: int) -> None:
        super().__init__()
        narrow = 4 * growth
        self.nonlinear1 = norm_relu(inputs)
        self.linear1 = nn.Conv1d(inputs, narrow, 1, bias=False)
        self.nonlinear2 = norm_relu(narrow)
        self.cam_layer = ContextMask(narrow, growth, dilation)

    def forward(self, hidden: Tensor) -> Tensor:
        grown: Tensor = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(hidden))))
        return grown


class DenseBlock(nn.Module):
    """(batch, in, frames) -> (batch, in + layers * growth, frames), by `tdnnd1`, `tdnnd2`, ..."""

    def __init__(self, inputs: int, layers: int, growth: int, dilation: int) -> None:
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
        self.nonlinear = norm_relu(channels)
        self.linear = nn.Conv1d(channels, channels // 2, 1, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.linear(self.nonlinear(hidden))
        return output


class Embedding(nn.Module):
    """(batch, statistics) -> (batch, embedding_dim)."""

    def __init__(self, inputs: int, embedding_dim: int, *, affine: bool) -> None:
        super().__init__()
        self.linear = nn.Conv1d(inputs, embedding_dim, 1, bias=False)
        self.nonlinear = nn.Sequential(
            OrderedDict(batchnorm=nn.BatchNorm1d(embedding_dim, affine=affine))
        )

    def forward(self, statistics: Tensor) -> Tensor:
        embedding: Tensor = self.nonlinear(self.linear(statistics.unsqueeze(2)).squeeze(2))
        return embedding


class CamPlusPlus(nn.Module):
    """(batch, mels, frames) -> (batch, embedding_dim), not normalized.

    `head_width` is that of the convolutions over the spectrogram, `width` that of the first over
    time, which halves the frames; each of `layers[i]` dense layers adds `growth` channels. A
    `stride` of 2 halves the frames at the spectrogram already; the paper has 1.
    """

    def __init__(
        self,
        *,
        mels: int,
        head_width: int = 32,
        width: int = 128,
        growth: int = 32,
        layers: Sequence[int] = LAYERS,
        stride: int = 1,
        embedding_dim: int,
        layout: str = "sayso",
    ) -> None:
        super().__init__()
        chosen = LAYOUTS[layout]
        self.head = Head(head_width, stride)
        parts: dict[str, nn.Module] = {
            "tdnn": TimeDelay(head_width * bands_after(mels, 2, 2, 2), width)
        }
        for number, (count, dilation) in enumerate(zip(layers, DILATIONS, strict=True), start=1):
            parts[f"block{number}"] = DenseBlock(width, count, growth, dilation)
            width += count * growth
            parts[f"transit{number}"] = Transit(width)
            width //= 2
        parts["out_nonlinear"] = norm_relu(width)
        parts["dense"] = Embedding(2 * width, embedding_dim, affine=chosen.affine)
        self.xvector = nn.ModuleDict(parts)
        self.pool = Statistics(floor=chosen.floor, unbiased=chosen.unbiased)
        self.frame_dim = width

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.xvector["out_nonlinear"](self.frames(features))
        embedding: Tensor = self.xvector["dense"](self.pool(hidden))
        return embedding

    def frames(self, features: Tensor) -> Tensor:
        """(batch, mels, frames) -> (batch, frame_dim, fewer frames), before pooling."""
        image = self.head(features.unsqueeze(1))  # (batch, head_width, bands, frames)
        hidden: Tensor = self.xvector["tdnn"](image.flatten(1, 2))
        for number in range(1, len(DILATIONS) + 1):
            block, transit = self.xvector[f"block{number}"], self.xvector[f"transit{number}"]
            hidden = transit(block(hidden))
        return hidden
