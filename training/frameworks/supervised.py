"""Supervised: clips of one speaker belong together, as the manifest says."""

from __future__ import annotations

from training.data.batches import Batch
from training.encoders import SpeakerEncoder
from training.frameworks.framework import Framework, Outcome, mixed_precision
from training.frameworks.latent import LatentAugmentation
from training.losses import WeightedSum
from training.ranks import Ranks


class Supervised(Framework):
    """P voices times K different clips, by preference of different sessions, and the recipe's
    losses over their labels: many instances of one speaker, as Azizi et al. 2021 (MICLe, arXiv
    2101.05224) take many images of one patient.

    Across ranks the losses see the embeddings of all, so that every rank's voices are negatives.
    """

    def __init__(
        self, objective: WeightedSum, ranks: Ranks, latent: LatentAugmentation | None = None
    ) -> None:
        super().__init__()
        self.objective = objective
        self.latent = latent
        self.ranks = ranks

    def step(self, encoder: SpeakerEncoder, batch: Batch) -> Outcome:
        # 1. this rank's waveforms to embeddings, then everyone's: (batch, dim)
        with mixed_precision(batch.waveforms.device):
            own = encoder(batch.waveforms)
        embeddings, labels, clips = (self.ranks.join(t) for t in (own, batch.labels, batch.clips))
        targets = None if batch.targets is None else self.ranks.join(batch.targets)

        # 2. made clips for voices that have a single one
        if self.latent is not None:
            embeddings, labels = self.latent(embeddings, labels, clips)

        # 3. the recipe's losses
        loss, parts = self.objective(embeddings, labels, targets)
        return Outcome(loss, parts, (embeddings.detach(), labels))
