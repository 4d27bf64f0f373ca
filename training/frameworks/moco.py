"""MoCo: He, Fan, Wu, Xie and Girshick, CVPR 2020, arXiv 1911.05722."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn import functional

from training.data.batches import Batch
from training.encoders import SpeakerEncoder
from training.frameworks.framework import Framework, Outcome, mixed_precision
from training.ranks import Ranks


class MoCo(Framework):
    """A view's query finds the key of the clip's other view among a queue of other clips' keys.

    Keys come from a momentum encoder, which follows the encoder slowly, so that keys of many
    batches stay comparable. The queue begins as random directions. Queue, place in it and momentum
    encoder are buffers of the checkpoint.

    Across ranks the keys are shuffled before they are encoded: query and key would else share
    their batch norm's statistics with the same neighbors, and could find each other by them. On
    one process there is nothing to shuffle to, since the order within a batch changes no statistic;
    that way to cheat then stays open, and several ranks close it.
    """

    queue: Tensor
    enqueued: Tensor

    def __init__(
        self,
        encoder: SpeakerEncoder,
        *,
        embedding_dim: int,
        queue: int,
        momentum: float,
        temperature: float,
        seed: int,
        ranks: Ranks,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.ranks = ranks
        self.seed = seed
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(requires_grad=False)
        random = torch.randn(queue, embedding_dim)
        self.register_buffer("queue", functional.normalize(random, dim=1))
        self.register_buffer("enqueued", torch.zeros((), dtype=torch.int64))
        self._keys = random[:0]

    def begin(self, encoder: SpeakerEncoder) -> None:
        self.key_encoder.load_state_dict(encoder.state_dict())

    def step(self, encoder: SpeakerEncoder, batch: Batch) -> Outcome:
        # 1. the two views of each clip: queries (clips, dim) learn, keys (clips, dim) do not
        with mixed_precision(batch.waveforms.device):
            queries = encoder(batch.waveforms[0::2])
            self._keys = self._encode_keys(batch.waveforms[1::2])
        own_keys = self._keys[self.ranks.share(len(self._keys))]

        # 2. similarity to the own key, and to every key of the queue
        positive = (queries * own_keys).sum(dim=1, keepdim=True)  # (clips, 1)
        negative = queries @ self.queue.T  # (clips, queue)
        logits = torch.cat([positive, negative], dim=1) / self.temperature

        # 3. InfoNCE: the own key, column 0, is the right answer
        answers = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        loss = functional.cross_entropy(logits, answers)
        return Outcome(loss, {"moco": loss.detach()}, (queries.detach(), batch.labels[0::2]))

    @torch.no_grad()
    def after_step(self, encoder: SpeakerEncoder) -> None:
        # 4. the momentum encoder follows
        for key, query in zip(self.key_encoder.parameters(), encoder.parameters(), strict=True):
            key.lerp_(query, 1 - self.momentum)

        # 5. the keys of this batch take the places of the oldest
        newest = self._keys[-len(self.queue) :]
        places = torch.arange(len(newest), device=newest.device) + self.enqueued
        self.queue[places % len(self.queue)] = newest
        self.enqueued += len(newest)

    @torch.no_grad()
    def _encode_keys(self, waveforms: Tensor) -> Tensor:
        """(clips, samples) of this rank -> keys of all ranks, (world * clips, dim), in order."""
        if self.ranks.world == 1:
            keys: Tensor = self.key_encoder(waveforms)
            return keys
        everyone = self.ranks.join(waveforms)
        order = self._draw_order(len(everyone)).to(everyone.device)
        shuffled = self.key_encoder(everyone[order[self.ranks.share(len(everyone))]])
        return self.ranks.join(shuffled)[order.argsort()]

    def _draw_order(self, total: int) -> Tensor:
        """The same permutation on every rank, from the seed and the keys so far alone."""
        generator = torch.Generator().manual_seed(hash((self.seed, int(self.enqueued))))
        return torch.randperm(total, generator=generator)
