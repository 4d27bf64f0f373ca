"""Additive angular margin softmax (ArcFace): Deng et al., CVPR 2019, arXiv 1801.07698."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class AamSoftmax(nn.Module):
    """Cross-entropy over classes whose own angle is widened by `margin` radians.

    The margin grows from 0 over `margin_warmup_steps` training calls. Where the widened angle
    would pass 180 degrees, the cosine falls on linearly instead.
    """

    steps: Tensor

    def __init__(
        self,
        *,
        embedding_dim: int,
        classes: int,
        scale: float = 30.0,
        margin: float = 0.2,
        margin_warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.empty(classes, embedding_dim))
        nn.init.xavier_normal_(self.centres)
        self.scale = scale
        self.margin = margin
        self.margin_warmup_steps = margin_warmup_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = functional.linear(embeddings, functional.normalize(self.centres, dim=1))
        own = functional.one_hot(labels, cosine.shape[1]).bool()  # (batch, classes)
        logits = torch.where(own, self._widened(cosine, self._current_margin()), cosine)
        return functional.cross_entropy(self.scale * logits, labels)

    def _current_margin(self) -> float:
        if self.margin_warmup_steps == 0:
            return self.margin
        share = min(1.0, int(self.steps) / self.margin_warmup_steps)
        if self.training:
            self.steps += 1
        return self.margin * share

    @staticmethod
    def _widened(cosine: Tensor, margin: float) -> Tensor:
        sine = (1.0 - cosine.square()).clamp(min=1e-7).sqrt()
        widened = cosine * math.cos(margin) - sine * math.sin(margin)
        beyond = cosine - margin * math.sin(margin)
        return torch.where(cosine > -math.cos(margin), widened, beyond)
