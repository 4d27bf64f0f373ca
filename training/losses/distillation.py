"""Distillation: a degraded crop as the student hears it, the whole clip as the teacher did."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Distillation(nn.Module):
    """Mean of `1 - cosine` between embeddings (batch, dim) and targets (batch, target_dim).

    A pair of views of one clip at one speed has one target, whatever its channels, so what the
    student learns of a voice does not depend on them. A linear map, which is not exported, leads
    from one to the other where the dimensions differ or where `mapped`: the student need only hold
    what the teacher tells, wherever its own space has it. Computed in float32. Hinton, Vinyals and
    Dean 2015 (arXiv 1503.02531); on speaker embeddings Wang et al. 2019 (ICASSP, doi
    10.1109/icassp.2019.8683443).
    """

    def __init__(self, *, embedding_dim: int, target_dim: int, mapped: bool = False) -> None:
        super().__init__()
        mapped = mapped or embedding_dim != target_dim
        self.project = nn.Linear(embedding_dim, target_dim, bias=False) if mapped else nn.Identity()

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        learned = functional.normalize(self.project(embeddings.float()), dim=1)
        cosines = (learned * functional.normalize(targets.float(), dim=1)).sum(dim=1)
        return (1 - cosines).mean()
