"""AASIST and AASIST-L: spoofed speech heard by graph attention over the raw waveform.

    waveform ─ sinc filters ─ residual blocks ─> map (channels, bands, frames)
        ├─ peak over frames ─> a node for each band  ─ graph attention, pool ─┐
        └─ peak over bands ──> a node for each frame ─ graph attention, pool ─┴─> two branches of
           stacked heterogeneous attention with a stack node ─> readout ─> logit

Jung et al. 2022, "AASIST: audio anti-spoofing using integrated spectro-temporal graph attention
networks", arXiv 2110.01200. Names of weights and sizes are those of the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporters import model_file
from exporters.countermeasures import CountermeasureCandidate
from exporters.sources.weights import export_errors
from training.encoders import published

RATE = 16000
WINDOW_SAMPLES = 64600
FILTERS, TAPS = 70, 129
MEL_BREAK_HZ, MEL_SCALE = 700.0, 2595.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """What differs between the published models.

    `widths` are the channels of the first two, of the third and of the last residual blocks;
    `node_width` and `stack_width` those of graph attention. Pools keep a share of the nodes:
    `kept_bands`, `kept_frames`, and `kept_stacked` in the branches.
    """

    title: str
    widths: tuple[int, int, int]
    node_width: int
    stack_width: int
    kept_bands: float
    kept_frames: float
    kept_stacked: float
    temperature: float = 2.0
    stack_temperature: float = 100.0


AASIST_SIZES = Sizes("AASIST", (32, 32, 64), 64, 32, 0.5, 0.7, 0.5)
AASIST_L_SIZES = Sizes("AASIST-L", (32, 32, 24), 24, 32, 0.4, 0.5, 0.7)


def make_sinc_filters() -> Tensor:
    """Make `(70, 129)` band passes of equal width in mels under a Hamming window.

    They are fixed: the checkpoints do not hold them.
    """
    highest = MEL_SCALE * math.log10(1 + RATE / 2 / MEL_BREAK_HZ)
    mels = np.linspace(0.0, highest, FILTERS + 1)
    edges_hz = MEL_BREAK_HZ * (10 ** (mels / MEL_SCALE) - 1)
    taps = np.arange(TAPS) - TAPS // 2
    cutoffs = 2 * edges_hz[:, None] / RATE
    low_passes = cutoffs * np.sinc(cutoffs * taps)  # (71, 129)
    return torch.from_numpy(np.diff(low_passes, axis=0) * np.hamming(TAPS)).float()


class ResidualBlock(nn.Module):
    """(batch, channels, bands, frames) -> the same bands and a third of the frames."""

    def __init__(self, width_in: int, width: int, *, first: bool = False) -> None:
        super().__init__()
        if not first:
            self.bn1 = nn.BatchNorm2d(width_in)  # published and never used, see forward
        self.conv1 = nn.Conv2d(width_in, width, (2, 3), padding=(1, 1))
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, (2, 3), padding=(0, 1))
        if width_in != width:
            self.conv_downsample = nn.Conv2d(width_in, width, (1, 3), padding=(0, 1))

    def forward(self, hidden: Tensor) -> Tensor:
        # The weights were trained with conv1 on the block's input, not on what bn1 makes of it.
        inner = self.conv2(functional.selu(self.bn2(self.conv1(hidden))))
        skip = self.conv_downsample(hidden) if hasattr(self, "conv_downsample") else hidden
        return functional.max_pool2d(inner + skip, (1, 3))


def _normalize(norm: nn.BatchNorm1d, nodes: Tensor) -> Tensor:
    """Normalize each feature of nodes (batch, nodes, width), then apply SELU."""
    normalized: Tensor = norm(nodes.transpose(1, 2))
    return functional.selu(normalized.transpose(1, 2))


class GraphAttention(nn.Module):
    """Nodes (batch, nodes, width) -> the same shape, each with what it attends to."""

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.att_proj = nn.Linear(width, width)
        self.att_weight = nn.Parameter(torch.empty(width, 1))
        self.proj_with_att = nn.Linear(width, width)
        self.proj_without_att = nn.Linear(width, width)
        self.bn = nn.BatchNorm1d(width)
        nn.init.xavier_normal_(self.att_weight)

    def forward(self, nodes: Tensor) -> Tensor:
        pairs = nodes.unsqueeze(2) * nodes.unsqueeze(1)  # (batch, nodes, nodes, width)
        scores = (torch.tanh(self.att_proj(pairs)) @ self.att_weight).squeeze(3)
        attention = torch.softmax(scores / self.temperature, dim=2)
        return _normalize(
            self.bn, self.proj_with_att(attention @ nodes) + self.proj_without_att(nodes)
        )


class GraphPool(nn.Module):
    """Keep the share of the nodes with the highest scores, by falling score, weighted by it."""

    def __init__(self, width: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.proj = nn.Linear(width, 1)

    def forward(self, nodes: Tensor) -> Tensor:
        scores = torch.sigmoid(self.proj(nodes))  # (batch, nodes, 1)
        kept = max(1, int(nodes.shape[1] * self.share))
        best = scores.topk(kept, dim=1).indices
        return (nodes * scores).gather(1, best.expand(-1, -1, nodes.shape[2]))


class HeterogeneousAttention(nn.Module):
    """Attention over nodes of two types, with a weight vector for each pair of types, and a stack
    node that gathers from all without being attended to."""

    att_weight11: Tensor
    att_weight22: Tensor
    att_weight12: Tensor
    att_weightM: Tensor

    def __init__(self, width_in: int, width: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.proj_type1 = nn.Linear(width_in, width_in)
        self.proj_type2 = nn.Linear(width_in, width_in)
        self.att_proj = nn.Linear(width_in, width)
        self.att_projM = nn.Linear(width_in, width)
        for name in ("att_weight11", "att_weight22", "att_weight12", "att_weightM"):
            weight = nn.Parameter(torch.empty(width, 1))
            nn.init.xavier_normal_(weight)
            self.register_parameter(name, weight)
        self.proj_with_att = nn.Linear(width_in, width)
        self.proj_without_att = nn.Linear(width_in, width)
        self.proj_with_attM = nn.Linear(width_in, width)
        self.proj_without_attM = nn.Linear(width_in, width)
        self.bn = nn.BatchNorm1d(width)

    def forward(self, frames: Tensor, bands: Tensor, stack: Tensor) -> tuple[Tensor, ...]:
        """Frames and bands (batch, nodes, width_in), stack (batch, 1, width_in) -> all three."""
        first = frames.shape[1]
        nodes = torch.cat([self.proj_type1(frames), self.proj_type2(bands)], dim=1)
        attended = self.proj_with_att(self._attend(nodes, first) @ nodes)
        gathered = self.proj_with_attM(self._attend_from_stack(nodes, stack) @ nodes)
        out = _normalize(self.bn, attended + self.proj_without_att(nodes))
        return out[:, :first], out[:, first:], gathered + self.proj_without_attM(stack)

    def _attend(self, nodes: Tensor, first: int) -> Tensor:
        """Attention (batch, nodes, nodes); the first `first` nodes are of type 1."""
        hidden = torch.tanh(self.att_proj(nodes.unsqueeze(2) * nodes.unsqueeze(1)))
        within1, within2, between = (
            (hidden @ weight).squeeze(3)
            for weight in (self.att_weight11, self.att_weight22, self.att_weight12)
        )
        from1 = torch.cat([within1[:, :first, :first], between[:, :first, first:]], dim=2)
        from2 = torch.cat([between[:, first:, :first], within2[:, first:, first:]], dim=2)
        return torch.softmax(torch.cat([from1, from2], dim=1) / self.temperature, dim=2)

    def _attend_from_stack(self, nodes: Tensor, stack: Tensor) -> Tensor:
        """Attention of the stack node, (batch, 1, nodes)."""
        scores = torch.tanh(self.att_projM(nodes * stack)) @ self.att_weightM
        return torch.softmax(scores / self.temperature, dim=1).transpose(1, 2)


class Aasist(nn.Module):
    """waveform (batch, 64600) at 16 kHz -> (batch,), the logit of bona fide speech.

    The published network ends in one output for each class, spoofed first. Their difference is
    returned, the log odds of its softmax: training fixes nothing else, because a number added to
    both changes no probability.
    """

    filters: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        start, middle, width = sizes.widths
        node, stack = sizes.node_width, sizes.stack_width
        self.register_buffer("filters", make_sinc_filters()[:, None, :], persistent=False)
        self.first_bn = nn.BatchNorm2d(1)
        blocks = [
            ResidualBlock(1, start, first=True),
            ResidualBlock(start, middle),
            ResidualBlock(middle, width),
            *(ResidualBlock(width, width) for _ in range(3)),
        ]
        self.encoder = nn.Sequential(*(nn.Sequential(block) for block in blocks))
        self.pos_S = nn.Parameter(torch.randn(1, FILTERS // 3, width))
        self.master1 = nn.Parameter(torch.randn(1, 1, node))
        self.master2 = nn.Parameter(torch.randn(1, 1, node))
        self.GAT_layer_S = GraphAttention(node, sizes.temperature)
        self.GAT_layer_T = GraphAttention(node, sizes.temperature)
        self.pool_S = GraphPool(node, sizes.kept_bands)
        self.pool_T = GraphPool(node, sizes.kept_frames)
        for branch in "12":
            for depth, width_in in (("1", node), ("2", stack)):
                layer = HeterogeneousAttention(width_in, stack, sizes.stack_temperature)
                self.add_module(f"HtrgGAT_layer_ST{branch}{depth}", layer)
            self.add_module(f"pool_hS{branch}", GraphPool(stack, sizes.kept_stacked))
            self.add_module(f"pool_hT{branch}", GraphPool(stack, sizes.kept_stacked))
        self.out_layer = nn.Linear(5 * stack, 2)

    def forward(self, waveform: Tensor) -> Tensor:
        filtered = functional.conv1d(waveform.unsqueeze(1), self.filters).abs().unsqueeze(1)
        hidden = functional.selu(self.first_bn(functional.max_pool2d(filtered, 3)))
        peaks = self.encoder(hidden).abs()  # (batch, width, bands, frames)
        bands = self.pool_S(self.GAT_layer_S(peaks.amax(dim=3).transpose(1, 2) + self.pos_S))
        frames = self.pool_T(self.GAT_layer_T(peaks.amax(dim=2).transpose(1, 2)))
        branches = [self._run_branch(name, frames, bands) for name in "12"]
        frames, bands, stack = (torch.maximum(*pair) for pair in zip(*branches, strict=True))
        readout = [frames.abs().amax(dim=1), frames.mean(dim=1)]
        readout += [bands.abs().amax(dim=1), bands.mean(dim=1), stack.squeeze(1)]
        spoofed, bona_fide = self.out_layer(torch.cat(readout, dim=1)).unbind(dim=1)
        logit: Tensor = bona_fide - spoofed
        return logit

    def _run_branch(self, branch: str, frames: Tensor, bands: Tensor) -> tuple[Tensor, ...]:
        """Two layers of heterogeneous attention; the second adds to the first."""
        master: Tensor = getattr(self, f"master{branch}")
        stack = master.expand(frames.shape[0], -1, -1)
        frames, bands, stack = self._layer(branch, 1)(frames, bands, stack)
        frames = getattr(self, f"pool_hT{branch}")(frames)
        bands = getattr(self, f"pool_hS{branch}")(bands)
        more = self._layer(branch, 2)(frames, bands, stack)
        return frames + more[0], bands + more[1], stack + more[2]

    def _layer(self, branch: str, depth: int) -> Callable[..., tuple[Tensor, ...]]:
        layer: HeterogeneousAttention = getattr(self, f"HtrgGAT_layer_ST{branch}{depth}")
        return layer


def make_candidate(path: Path, sizes: Sizes) -> CountermeasureCandidate:
    """Load the checkpoint at `path`; raises `CheckpointError` if it holds another model."""
    network = Aasist(sizes)
    with export_errors():
        state = published.require_tensors(published.read(path), path)
        published.fill(network, state, architecture=sizes.title)
    return CountermeasureCandidate(
        name=sizes.title.lower(),
        network=network.eval(),
        rate=RATE,
        window_samples=WINDOW_SAMPLES,
        hop_samples=WINDOW_SAMPLES // 2,
        provenance={
            "source": f"{sizes.title}, https://github.com/clovaai/aasist",
            "checkpoint": model_file.digest(path),
            "logit": "output of bona fide less output of spoofed",
        },
    )
