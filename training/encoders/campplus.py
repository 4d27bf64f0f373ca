"""CAM++, a densely connected TDNN with context-aware masking: Wang et al., Interspeech 2023,
arXiv 2303.00332."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.encoders.pooling import Statistics
from training.encoders.resnet import Convolution, Stride, bands_after, stage

SEGMENT_FRAMES = 100
DILATIONS = (1, 2, 2)


def segment_means(hidden: Tensor) -> Tensor:
    """Over 100 frames each, the last over those that are left: (batch, channels, frames) ->
    (batch, channels, segments)."""
    missing = (0, SEGMENT_FRAMES - 1)
    sums = functional.avg_pool1d(functional.pad(hidden, missing), SEGMENT_FRAMES)
    there = functional.pad(torch.ones_like(hidden[:1, :1]), missing)
    return sums / functional.avg_pool1d(there, SEGMENT_FRAMES)


def spread(segments: Tensor, frames: int) -> Tensor:
    """Each segment's value at each of its frames: -> (batch, channels, frames)."""
    repeated = segments.unsqueeze(3).expand(-1, -1, -1, SEGMENT_FRAMES)
    return repeated.flatten(2)[:, :, :frames]


class MaskedConvolution(nn.Module):
    """A convolution over time whose outputs are scaled by what its utterance and its segment sound
    like; the scale is found once a segment, not once a frame, which comes to the same."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.local = nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
        self.mask = nn.Sequential(
            nn.Conv1d(inputs, inputs // 2, 1),
            nn.ReLU(),
            nn.Conv1d(inputs // 2, outputs, 1),
            nn.Sigmoid(),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        context = hidden.mean(dim=2, keepdim=True) + segment_means(hidden)
        masked: Tensor = self.local(hidden) * spread(self.mask(context), hidden.shape[2])
        return masked


class DenseLayer(nn.Sequential):
    """`growth` channels from all that came before: (batch, in, frames) -> (batch, growth, frames);
    the caller joins them to the input."""

    def __init__(self, inputs: int, growth: int, dilation: int) -> None:
        narrow = 4 * growth
        super().__init__(
            nn.BatchNorm1d(inputs),
            nn.ReLU(),
            nn.Conv1d(inputs, narrow, 1, bias=False),
            nn.BatchNorm1d(narrow),
            nn.ReLU(),
            MaskedConvolution(narrow, growth, dilation),
        )


class DenseBlock(nn.Module):
    """(batch, in, frames) -> (batch, (in + layers * growth) // 2, frames)."""

    def __init__(self, inputs: int, layers: int, growth: int, dilation: int) -> None:
        super().__init__()
        grown = inputs + layers * growth
        self.layers = nn.ModuleList(
            DenseLayer(width, growth, dilation) for width in range(inputs, grown, growth)
        )
        self.halve = nn.Sequential(
            nn.BatchNorm1d(grown), nn.ReLU(), nn.Conv1d(grown, grown // 2, 1, bias=False)
        )
        self.outputs = grown // 2

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = torch.cat([hidden, layer(hidden)], dim=1)
        halved: Tensor = self.halve(hidden)
        return halved


class Head(nn.Sequential):
    """Residual convolutions that leave an eighth of the bands: (batch, 1, mels, frames) ->
    (batch, width, bands, ceil(frames / stride))."""

    def __init__(self, width: int, stride: int) -> None:
        down: Stride = (2, 1)
        super().__init__(
            Convolution(1, width, stride=(1, stride)),
            nn.ReLU(),
            stage(width, width, 2, down),
            stage(width, width, 2, down),
            Convolution(width, width, stride=down),
            nn.ReLU(),
        )


class CamPlusPlus(nn.Module):
    """(batch, mels, frames) -> (batch, embedding_dim), not normalised.

    `head_width` is that of the convolutions over the spectrogram, `width` that of the first over
    time, which halves the frames; each of `layers[i]` dense layers adds `growth` channels. A
    `stride` of 2 halves the frames at the spectrogram already; the paper has 1.
    """

    def __init__(
        self,
        *,
        mels: int,
        head_width: int,
        width: int,
        growth: int,
        layers: Sequence[int],
        stride: int,
        embedding_dim: int,
    ) -> None:
        super().__init__()
        self.head = Head(head_width, stride)
        self.stem = nn.Sequential(
            nn.Conv1d(
                head_width * bands_after(mels, 2, 2, 2), width, 5, stride=2, padding=2, bias=False
            ),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential()
        for count, dilation in zip(layers, DILATIONS, strict=True):
            block = DenseBlock(width, count, growth, dilation)
            self.blocks.append(block)
            width = block.outputs
        self.frame_dim = width
        self.pool = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), Statistics())
        self.project = nn.Sequential(
            nn.Linear(2 * width, embedding_dim, bias=False), nn.BatchNorm1d(embedding_dim)
        )

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.project(self.pool(self.frames(features)))
        return embedding

    def frames(self, features: Tensor) -> Tensor:
        """(batch, mels, frames) -> (batch, frame_dim, fewer frames), before pooling."""
        image = self.head(features.unsqueeze(1))  # (batch, head_width, bands, frames)
        hidden: Tensor = self.blocks(self.stem(image.flatten(1, 2)))
        return hidden
