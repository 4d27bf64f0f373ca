"""Generalised end-to-end loss, softmax form: Wan et al., ICASSP 2018 (1710.10467)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.losses.pairs import directions, sum_by_voice, view_of_voice
from training.losses.precision import in_float32
from training.losses.temperature import log_scale, scale_of


class Ge2e(nn.Module):
    """Softmax over every view against the centroid of every voice, its own without itself.

    Cosines times a learned scale, 1 to 100; the bias of the paper cancels in the softmax. The
    mean over views where the paper sums. Zero, with zero gradient, for a single voice; BatchError
    when a voice has a single view.
    """

    def __init__(self, *, scale: float = 10.0) -> None:
        super().__init__()
        self.log_scale = log_scale(scale, learned=True)

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        voice, _ = view_of_voice(labels)
        sums = sum_by_voice(embeddings, voice)  # (voices, dim)
        others = directions(sums[voice] - embeddings)  # (batch, dim)
        to_own = (embeddings * others).sum(dim=1, keepdim=True)
        own = functional.one_hot(voice, len(sums)).bool()  # (batch, voices)
        cosines = torch.where(own, to_own, embeddings @ directions(sums).T)
        return functional.cross_entropy(scale_of(self.log_scale) * cosines, voice)
