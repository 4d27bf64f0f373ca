"""InfoNCE in both directions, the form of CLIP: Radford et al., ICML 2021 (2103.00020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.losses.pairs import first_two_views
from training.losses.precision import in_float32
from training.losses.temperature import log_scale, scale_of


class SymmetricInfoNce(nn.Module):
    """Which test side belongs to this enrolment side, and the reverse: the mean of both.

    The sides are the first and the second view of each voice; views beyond are left out. The
    temperature, fixed or learned, stays from 0.01 to 1. Zero, with zero gradient, for a single
    voice; BatchError when a voice has a single view.
    """

    def __init__(self, *, temperature: float = 0.07, learned: bool = True) -> None:
        super().__init__()
        self.log_scale = log_scale(1.0 / temperature, learned=learned)

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        enrolled, tested = first_two_views(embeddings, labels)  # (voices, dim)
        scores = scale_of(self.log_scale) * (enrolled @ tested.T)
        own = torch.arange(len(scores), device=scores.device)
        both = functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)
        return both / 2
