"""SpeechBrain's ECAPA-TDNN and ResNet, behind its own filterbank, from `embedding_model.ckpt`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from exporters.sources.pipeline import Architecture
from exporters.sources.weights import Shapes
from training.frontends.published import SpeechBrainFbank

_SOURCE = "https://github.com/speechbrain/speechbrain"
_GROUPS = 8
_DEPTHS = (3, 4, 6, 3)


class Wrapped(nn.Module):
    """SpeechBrain keeps a layer inside a layer: its weights are `conv.weight`, `norm.weight`."""

    def __init__(self, name: str, layer: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, layer)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.get_submodule(self.name)(hidden)
        return output


def convolution(inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> Wrapped:
    """Of the same length, its edges mirrored."""
    padding = dilation * (kernel // 2)
    mode: Literal["reflect", "zeros"] = "reflect" if padding else "zeros"
    conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding=padding, padding_mode=mode)
    return Wrapped("conv", conv)


class Tdnn(nn.Module):
    """Convolution, ReLU, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, kernel, dilation)
        self.norm = Wrapped("norm", nn.BatchNorm1d(outputs))

    def forward(self, hidden: Tensor) -> Tensor:
        normalised: Tensor = self.norm(self.conv(hidden).relu())
        return normalised


class Res2Net(nn.Module):
    """All groups but the first are convolved, from the third with their predecessor's output."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // _GROUPS
        self.blocks = nn.ModuleList(Tdnn(width, width, 3, dilation) for _ in range(_GROUPS - 1))

    def forward(self, hidden: Tensor) -> Tensor:
        first, *groups = hidden.chunk(_GROUPS, dim=1)
        outputs = [first]
        for index, (block, group) in enumerate(zip(self.blocks, groups, strict=True)):
            outputs.append(block(group + outputs[-1] if index else group))
        return torch.cat(outputs, dim=1)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, bottleneck)
        self.conv2 = convolution(bottleneck, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        gains = self.conv2(self.conv1(hidden.mean(dim=2, keepdim=True)).relu()).sigmoid()
        scaled: Tensor = gains * hidden
        return scaled


class SERes2Net(nn.Module):
    def __init__(self, channels: int, dilation: int, bottleneck: int) -> None:
        super().__init__()
        self.tdnn1 = Tdnn(channels, channels)
        self.res2net_block = Res2Net(channels, dilation)
        self.tdnn2 = Tdnn(channels, channels)
        self.se_block = SqueezeExcitation(channels, bottleneck)

    def forward(self, hidden: Tensor) -> Tensor:
        residual = self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(hidden))))
        total: Tensor = residual + hidden
        return total


def _weighed(hidden: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over time, (batch, channels, 1) each."""
    mean = (weights * hidden).sum(dim=2, keepdim=True)
    variance = (weights * (hidden - mean).square()).sum(dim=2, keepdim=True)
    return mean, variance.clamp(min=1e-12).sqrt()


class AttentivePooling(nn.Module):
    """With global context: (batch, channels, frames) -> (batch, 2 * channels, 1)."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.tdnn = Tdnn(3 * channels, bottleneck)
        self.conv = convolution(bottleneck, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        uniform = torch.ones_like(hidden[:, :1]) / hidden.shape[2]
        mean, deviation = _weighed(hidden, uniform)
        seen = [hidden, mean.expand_as(hidden), deviation.expand_as(hidden)]
        weights = self.conv(self.tdnn(torch.cat(seen, dim=1)).tanh()).softmax(dim=2)
        return torch.cat(_weighed(hidden, weights), dim=1)


class EcapaTdnn(nn.Module):
    """(batch, frames, mels) -> (batch, dimension) (Desplanques et al. 2020)."""

    def __init__(
        self, *, width: int, mels: int, dimension: int, attention: int = 128, squeeze: int = 128
    ) -> None:
        super().__init__()
        blocks = (SERes2Net(width, dilation, squeeze) for dilation in (2, 3, 4))
        self.blocks = nn.ModuleList([Tdnn(mels, width, 5), *blocks])
        self.mfa = Tdnn(3 * width, 3 * width)
        self.asp = AttentivePooling(3 * width, attention)
        self.asp_bn = Wrapped("norm", nn.BatchNorm1d(6 * width))
        self.fc = convolution(6 * width, dimension)

    def forward(self, features: Tensor) -> Tensor:
        hidden, outputs = features.transpose(1, 2), []
        for block in self.blocks:
            hidden = block(hidden)
            outputs.append(hidden)
        pooled = self.asp(self.mfa(torch.cat(outputs[1:], dim=1)))
        embedding: Tensor = self.fc(self.asp_bn(pooled)).squeeze(2)
        return embedding


class ImageExcitation(nn.Module):
    """Channel gains from the mean over time and frequency."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.Sigmoid()
        )

    def forward(self, hidden: Tensor) -> Tensor:
        gains: Tensor = self.fc(hidden.mean(dim=(2, 3)))
        return hidden * gains[:, :, None, None]


class PreActivated(nn.Module):
    """Three convolutions, each after batch norm and ReLU, with gains where asked."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, excited: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.se = ImageExcitation(outputs) if excited else nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, hidden: Tensor) -> Tensor:
        residual = self.conv1(self.bn1(hidden).relu())
        residual = self.conv2(self.bn2(residual).relu())
        residual = self.se(self.conv3(self.bn3(residual).relu()))
        total: Tensor = residual + self.downsample(hidden)
        return total


class ResNet(nn.Module):
    """(batch, frames, mels) -> (batch, dimension) (Villalba et al. 2020)."""

    def __init__(self, channels: tuple[int, int, int, int], *, mels: int, dimension: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        inputs = channels[0]
        for index, (outputs, blocks) in enumerate(zip(channels, _DEPTHS, strict=True)):
            excited, stride = index < 2, (2 if index else 1)
            first = PreActivated(inputs, outputs, stride, excited=excited)
            later = [PreActivated(outputs, outputs, 1, excited=excited) for _ in range(blocks - 1)]
            self.add_module(f"layer{index + 1}", nn.Sequential(first, *later))
            inputs = outputs
        folded = inputs * -(-mels // 8)
        self.attention = nn.Sequential(
            nn.Conv1d(folded, 128, 1), nn.ReLU(), nn.BatchNorm1d(128), nn.Conv1d(128, folded, 1)
        )
        self.norm_stats = nn.BatchNorm1d(2 * folded)
        self.fc_embed = nn.Linear(2 * folded, dimension)
        self.norm_embed = nn.BatchNorm1d(dimension)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(features.unsqueeze(1))).relu()
        for name in ("layer1", "layer2", "layer3", "layer4"):
            hidden = self.get_submodule(name)(hidden)  # (batch, channels, frames, mels)
        hidden = hidden.transpose(2, 3).flatten(1, 2)
        weights = self.attention(hidden).softmax(dim=2)
        mean = (hidden * weights).sum(dim=2)
        variance = (hidden.square() * weights).sum(dim=2) - mean.square()
        statistics = torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=1)
        embedding: Tensor = self.norm_embed(self.fc_embed(self.norm_stats(statistics)))
        return embedding


def _front_end(rate: int, mels: int) -> nn.Module:
    return SpeechBrainFbank(rate=rate, mels=mels)


def _ecapa(shapes: Shapes) -> tuple[nn.Module, int]:
    first = "blocks.0.conv.conv.weight"
    mels = shapes.size(first, 1)
    encoder = EcapaTdnn(
        width=shapes.size(first),
        mels=mels,
        dimension=shapes.size("fc.conv.weight"),
        attention=shapes.size("asp.tdnn.conv.conv.weight"),
        squeeze=shapes.size("blocks.1.se_block.conv1.conv.weight"),
    )
    return encoder, mels


def _resnet(shapes: Shapes) -> tuple[nn.Module, int]:
    sizes = [shapes.size(f"layer{i}.0.conv1.weight") for i in (1, 2, 3, 4)]
    mels = shapes.size("fc_embed.weight", 1) // (2 * sizes[3]) * 8
    channels = (sizes[0], sizes[1], sizes[2], sizes[3])
    return ResNet(channels, mels=mels, dimension=shapes.size("fc_embed.weight")), mels


SPEECHBRAIN: Mapping[str, Architecture] = {
    "speechbrain-ecapa": Architecture("SpeechBrain ECAPA-TDNN", _ecapa, _front_end, _SOURCE),
    "speechbrain-resnet": Architecture("SpeechBrain ResNet", _resnet, _front_end, _SOURCE),
}
