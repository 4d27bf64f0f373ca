"""Contrastive predictive coding: van den Oord, Li and Vinyals 2018, arXiv 1807.03748."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.batches import Batch
from training.encoders import SpeakerEncoder
from training.errors import ConfigError
from training.frameworks.framework import Framework, Outcome, mixed_precision
from training.ranks import Ranks

NEGATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "all": torch.ones_like,
    "utterances": torch.logical_not,
    "times": torch.clone,
}


class Trunk(Protocol):
    """An encoder with an output for every frame, before it pools over time."""

    frame_dim: int

    def frames(self, features: Tensor) -> Tensor:
        """(batch, mels, frames) -> (batch, frame_dim, as many frames or fewer)."""


def trunk_of(encoder: SpeakerEncoder) -> Trunk:
    """The part of the encoder before pooling; ConfigError if it has no output for every frame."""
    if not hasattr(encoder.encoder, "frames"):
        raise ConfigError("cpc needs an encoder with an output for every frame (ecapa has one)")
    return cast("Trunk", encoder.encoder)


class Cpc(Framework):
    """From what was heard so far, tell each of the next `ahead` latents from others of the batch.

    A latent is the trunk's mean output over a chunk of `chunk_frames` features, encoded by itself:
    a trunk with a wide view, or with squeeze-excitation's global one, would otherwise have heard
    what it is to predict. Contrasted are all other latents of the batch, or those of other
    `utterances`, or of other `times` of the same one.

    The encoder's pooling and head are left as they were drawn; a supervised run that starts from
    this one's checkpoint goes on with the trunk. Validation hears the mean of the frames.
    """

    def __init__(
        self,
        *,
        frame_dim: int,
        context_dim: int,
        ahead: int,
        chunk_frames: int,
        negatives: str,
        ranks: Ranks,
    ) -> None:
        super().__init__()
        self.chunk_frames = chunk_frames
        self.negatives = NEGATIVES[negatives]
        self.ranks = ranks
        self.context = nn.GRU(frame_dim, context_dim, batch_first=True)
        self.predict = nn.ModuleList(
            nn.Linear(context_dim, frame_dim, bias=False) for _ in range(ahead)
        )

    def step(self, encoder: SpeakerEncoder, batch: Batch) -> Outcome:
        # 1. chunks to latents (batch, chunks, frame_dim); all that was heard up to each of them
        latents = self._latents(encoder, batch.waveforms)
        context, _ = self.context(latents)  # (batch, chunks, context_dim)

        # 2. everyone's latents, and which of them are of the same clip: (batch, all)
        everyone = self.ranks.join(latents)
        same = batch.labels[:, None] == self.ranks.join(batch.labels)[None, :]

        # 3. each step ahead has a prediction of its own, and tells the right latent from the others
        losses = {
            f"ahead_{ahead}": self._info_nce(
                predict(context[:, :-ahead]), everyone[:, ahead:], same
            )
            for ahead, predict in enumerate(self.predict, start=1)
        }
        loss = torch.stack(list(losses.values())).mean()
        return Outcome(loss, {name: part.detach() for name, part in losses.items()})

    def for_validation(self, encoder: SpeakerEncoder) -> nn.Module:
        return FrameMean(encoder)

    def _latents(self, encoder: SpeakerEncoder, waveforms: Tensor) -> Tensor:
        features = encoder.masks(encoder.front_end(waveforms))  # (batch, mels, frames)
        size = self.chunk_frames
        chunks = features.unfold(2, size, size).transpose(1, 2)  # (batch, chunks, mels, size)
        with mixed_precision(waveforms.device):
            frames = trunk_of(encoder).frames(chunks.flatten(0, 1))
        return frames.float().mean(dim=2).view(chunks.shape[0], chunks.shape[1], -1)

    def _info_nce(self, predicted: Tensor, latents: Tensor, same: Tensor) -> Tensor:
        """(batch, places, dim), (all, places, dim), (batch, all) -> scalar."""
        places, dim = predicted.shape[1:]
        scores = predicted.flatten(0, 1) @ latents.flatten(0, 1).T / math.sqrt(dim)
        begin = self.ranks.share(len(latents)).start * places
        own = torch.arange(len(scores), device=scores.device)
        compared = self.negatives(same).repeat_interleave(places, 0).repeat_interleave(places, 1)
        compared[own, begin + own] = True
        return functional.cross_entropy(scores.masked_fill(~compared, -math.inf), begin + own)


class FrameMean(nn.Module):
    """waveform (batch, samples) -> mean of the trunk's frames (batch, frame_dim) at unit length."""

    def __init__(self, encoder: SpeakerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, waveform: Tensor) -> Tensor:
        frames = trunk_of(self.encoder).frames(self.encoder.front_end(waveform))
        return functional.normalize(frames.float().mean(dim=2), dim=1)
