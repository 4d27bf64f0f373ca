"""Drawn views to tensors: cut, sped, each through a channel of its own, stacked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.augment import Channel, Waveform, wrap
from training.data.library import Library
from training.data.sampler import Draw, View
from training.data.teacher import Targets
from training.errors import BatchError
from training.ranks import ALONE, Ranks

Array = npt.NDArray[np.float32] | npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Waveforms (batch, samples) float32, labels (batch,) and numbers of the clips (batch,) int64
    and, where there is a teacher, what it makes of each whole clip: (batch, dim) float32 of unit
    length."""

    waveforms: Tensor
    labels: Tensor
    clips: Tensor
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Batch:
        def move(part: Tensor) -> Tensor:
            return part.to(device, non_blocking=True)

        targets = None if self.targets is None else move(self.targets)
        return Batch(move(self.waveforms), move(self.labels), move(self.clips), targets)


class Sampler(Protocol):
    def draw(self, step: int) -> Draw: ...


class Batches(Dataset[Batch]):
    """Makes the batch of step t from (seed, t) alone; of several ranks, each makes its share."""

    def __init__(
        self,
        library: Library,
        sampler: Sampler,
        channel: Channel,
        *,
        sample_rate_hz: int,
        seed: int,
        targets: Targets | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._library = library
        self._sampler = sampler
        self._channel = channel
        self._rate_hz = sample_rate_hz
        self._seed = seed
        self._targets = targets
        self._ranks = ranks

    def __getitem__(self, step: int) -> Batch:
        draw = self._sampler.draw(step)
        samples = round(draw.crop_s * self._rate_hz)
        share = self._ranks.share(len(draw.views))
        views = draw.views[share]
        waveforms = [
            self._channel(
                self._cut(view, samples), np.random.default_rng((self._seed, step, place))
            )
            for place, view in enumerate(views, start=share.start)
        ]
        return Batch(
            torch.from_numpy(np.stack(waveforms)),
            torch.tensor([view.label for view in views]),
            torch.tensor([view.clip for view in views]),
            self._taught(views),
        )

    def _taught(self, views: tuple[View, ...]) -> Tensor | None:
        if self._targets is None:
            return None
        return torch.from_numpy(np.stack([self._targets.of(v.clip, v.speed) for v in views]))

    def _cut(self, view: View, samples: int) -> Waveform:
        audio = self._library.audio[view.clip]
        if view.speed == 1.0:
            return wrap(audio, samples, view.position)
        wanted = round(samples * view.speed)
        span = wrap(audio, min(wanted, audio.size), view.position)
        resampled: Waveform = soxr.resample(span, self._rate_hz * view.speed, self._rate_hz)
        return wrap(resampled, samples, 0.0)


class Arrays(Dataset[tuple[Array | None, ...]]):
    """The same batches as numpy arrays. Workers send these through a pipe; tensors would go
    through /dev/shm, which is 64 MB in a container, and a worker hangs or dies where that is full.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> tuple[Array | None, ...]:
        batch = self._batches[step]
        targets = None if batch.targets is None else batch.targets.numpy()
        return batch.waveforms.numpy(), batch.labels.numpy(), batch.clips.numpy(), targets


def _as_is(arrays: Any) -> Any:
    return arrays


def stream(batches: Batches, start: int, stop: int, workers: int) -> Iterator[Batch]:
    """Batches of steps start to stop - 1 in order, whatever the number of worker processes.

    Raises BatchError when one of these is killed.
    """
    loader = DataLoader(
        Arrays(batches),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        collate_fn=_as_is,  # the default makes tensors in the worker
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),
    )
    steps = iter(loader)
    while (arrays := _next(steps)) is not None:
        waveforms, labels, clips, targets = map(_tensor, arrays)
        yield Batch(waveforms, labels, clips, targets)


def _next(steps: Iterator[Any]) -> Any:
    try:
        return next(steps, None)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise BatchError(
            "a process that prepares batches was killed, for want of memory perhaps: ask for fewer "
            "--workers, and go on with --resume"
        ) from error


def _tensor(array: Array | None) -> Any:
    return None if array is None else torch.from_numpy(array)
