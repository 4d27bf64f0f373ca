"""SpeechBrain's ECAPA-TDNN and ResNet, behind its own filterbank, from `embedding_model.ckpt`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from exporters.sources.pipeline import Architecture
from exporters.sources.weights import Shapes
from training import frontends
from training.encoders.ecapa import EcapaTdnn

_SOURCE = "https://github.com/speechbrain/speechbrain"
_DEPTHS = (3, 4, 6, 3)


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
    """Three convolutions, each after batch norm and ReLU; `excited` adds channel gains."""

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
    """(batch, mels, frames) -> (batch, embedding_dim) (Villalba et al. 2020)."""

    def __init__(
        self, channels: tuple[int, int, int, int], *, mels: int, embedding_dim: int
    ) -> None:
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
        self.fc_embed = nn.Linear(2 * folded, embedding_dim)
        self.norm_embed = nn.BatchNorm1d(embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(features.transpose(1, 2).unsqueeze(1))).relu()
        for name in ("layer1", "layer2", "layer3", "layer4"):
            hidden = self.get_submodule(name)(hidden)  # (batch, channels, frames, mels)
        hidden = hidden.transpose(2, 3).flatten(1, 2)
        weights = self.attention(hidden).softmax(dim=2)
        mean = (hidden * weights).sum(dim=2)
        variance = (hidden.square() * weights).sum(dim=2) - mean.square()
        statistics = torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=1)
        embedding: Tensor = self.norm_embed(self.fc_embed(self.norm_stats(statistics)))
        return embedding


def _ecapa(shapes: Shapes) -> tuple[nn.Module, int]:
    mels = shapes.size("layer1.conv.weight", 1)
    encoder = EcapaTdnn(
        width=shapes.size("layer1.conv.weight"),
        mels=mels,
        embedding_dim=shapes.size("linear.weight"),
        layout="speechbrain",
        attention=shapes.size("pool.linear1.weight"),
        excitation=shapes.size("layer2.se_res2block.3.linear1.weight"),
    )
    return encoder, mels


def _resnet(shapes: Shapes) -> tuple[nn.Module, int]:
    sizes = [shapes.size(f"layer{i}.0.conv1.weight") for i in (1, 2, 3, 4)]
    mels = shapes.size("fc_embed.weight", 1) // (2 * sizes[3]) * 8
    channels = (sizes[0], sizes[1], sizes[2], sizes[3])
    return ResNet(channels, mels=mels, embedding_dim=shapes.size("fc_embed.weight")), mels


_front_end = frontends.speechbrain
SPEECHBRAIN: Mapping[str, Architecture] = {
    "speechbrain-ecapa": Architecture("SpeechBrain ECAPA-TDNN", _ecapa, _front_end, _SOURCE),
    "speechbrain-resnet": Architecture("SpeechBrain ResNet", _resnet, _front_end, _SOURCE),
}
