"""The angular prototypical loss: Chung et al., Interspeech 2020 (2003.11982)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.losses.pairs import directions, sum_by_voice, view_of_voice
from training.losses.precision import in_float32
from training.losses.temperature import log_scale, scale_of


class AngularPrototypical(nn.Module):
    """Softmax over each voice's last view against the mean of the others' of every voice.

    Cosines times a learned scale, 1 to 100; the bias of the paper cancels in the softmax. Zero,
    with zero gradient, for a single voice; BatchError when a voice has a single view.
    """

    def __init__(self, *, scale: float = 10.0) -> None:
        super().__init__()
        self.log_scale = log_scale(scale, learned=True)

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        voice, view = view_of_voice(labels)
        last = view == voice.bincount()[voice] - 1
        queries = sum_by_voice(embeddings * last[:, None], voice)  # (voices, dim)
        prototypes = directions(sum_by_voice(embeddings * ~last[:, None], voice))
        scores = scale_of(self.log_scale) * (queries @ prototypes.T)
        return functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
