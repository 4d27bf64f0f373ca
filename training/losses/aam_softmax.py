"""Additive angular margin softmax (ArcFace): Deng et al., CVPR 2019, arXiv 1801.07698."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.losses.precision import in_float32


class AamSoftmax(nn.Module):
    """Cross-entropy over classes whose own angle is widened by `margin` radians.

    The margin grows from 0 over `margin_warmup_steps` training calls. Where the widened angle
    would pass 180 degrees, the cosine falls on linearly instead. A class may have several
    `subcentres`, of which the nearest counts, so that a voice's odd clips need not lie with the
    rest (Deng et al., ECCV 2020). It needs no pairs: any batch has a loss, a single view too.
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
        subcentres: int = 1,
    ) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.empty(classes * subcentres, embedding_dim))
        nn.init.xavier_normal_(self.centres)
        self.scale = scale
        self.margin = margin
        self.margin_warmup_steps = margin_warmup_steps
        self.subcentres = subcentres
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @in_float32
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        to_each = functional.linear(embeddings, functional.normalize(self.centres, dim=1))
        cosine = to_each.view(len(embeddings), -1, self.subcentres).amax(dim=2)  # (batch, classes)
        own = functional.one_hot(labels, cosine.shape[1]).bool()
        logits = torch.where(own, self._widen(cosine, self._current_margin()), cosine)
        return functional.cross_entropy(self.scale * logits, labels)

    def _current_margin(self) -> float:
        if self.margin_warmup_steps == 0:
            return self.margin
        share = min(1.0, int(self.steps) / self.margin_warmup_steps)
        if self.training:
            self.steps += 1
        return self.margin * share

    @staticmethod
    def _widen(cosine: Tensor, margin: float) -> Tensor:
        sine = (1.0 - cosine.square()).clamp(min=1e-7).sqrt()
        widened = cosine * math.cos(margin) - sine * math.sin(margin)
        beyond = cosine - margin * math.sin(margin)
        return torch.where(cosine > -math.cos(margin), widened, beyond)
