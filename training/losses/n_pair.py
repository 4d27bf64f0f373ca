"""The N-pair loss: Sohn, NIPS 2016."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.losses.pairs import first_two_views
from training.losses.precision import in_float32


class NPair(nn.Module):
    """Softmax over each voice's first view against the second views of all voices.

    log(1 + sum_j exp(f_i . g_j - f_i . g_i)), averaged over voices. Embeddings have unit length,
    so the paper's penalty on their length has no place, and `scale`, a squared length, is fixed.
    Views beyond the second are left out. Zero, with zero gradient, for a single voice; BatchError
    when a voice has a single view.
    """

    def __init__(self, *, scale: float = 16.0) -> None:
        super().__init__()
        self.scale = scale

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        anchors, positives = first_two_views(embeddings, labels)  # (voices, dim)
        scores = self.scale * (anchors @ positives.T)
        return functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
