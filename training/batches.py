"""Drawn views to tensors: cut, sped, each through a channel of its own, stacked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.augment import Channel, Waveform, wrapped
from training.data import Library
from training.sampler import View, VoiceSampler


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Step t is (batch, samples) float32 and labels (batch,) int64, from (seed, t) alone."""

    def __init__(
        self,
        library: Library,
        sampler: VoiceSampler,
        channel: Channel,
        *,
        sample_rate_hz: int,
        seed: int,
    ) -> None:
        self._library = library
        self._sampler = sampler
        self._channel = channel
        self._rate_hz = sample_rate_hz
        self._seed = seed

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        draw = self._sampler.draw(step)
        samples = round(draw.crop_s * self._rate_hz)
        waveforms = [
            self._channel(
                self._cut(view, samples), np.random.default_rng((self._seed, step, place))
            )
            for place, view in enumerate(draw.views)
        ]
        labels = [view.label for view in draw.views]
        return torch.from_numpy(np.stack(waveforms)), torch.tensor(labels)

    def _cut(self, view: View, samples: int) -> Waveform:
        audio = self._library.audio[view.clip]
        if view.speed == 1.0:
            return wrapped(audio, samples, view.position)
        wanted = round(samples * view.speed)
        span = wrapped(audio, min(wanted, audio.size), view.position)
        sped: Waveform = soxr.resample(span, self._rate_hz * view.speed, self._rate_hz)
        return wrapped(sped, samples, 0.0)


def stream(
    batches: Batches, start: int, stop: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of steps start to stop - 1 in order, whatever the number of worker processes."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),
    )
    yield from loader
